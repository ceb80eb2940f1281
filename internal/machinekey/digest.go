package machinekey

import (
	"context"
	"crypto/hmac"
	"crypto/md5"
	"crypto/sha256"
	"encoding/hex"
	"hash"
	"strings"
	"time"

	"github.com/caddy-mfa/caddy-mfa/internal/account"
	"github.com/caddy-mfa/caddy-mfa/internal/audit"
	"github.com/caddy-mfa/caddy-mfa/internal/gate"
	"github.com/caddy-mfa/caddy-mfa/internal/legacy"
	"github.com/caddy-mfa/caddy-mfa/internal/mfa"
	"github.com/caddy-mfa/caddy-mfa/internal/seal"
)

// AppPasswordOverDigest judges an app password that has come over HTTP Digest (RFC 7616). name is canonical, or what was typed if it has
// no canonical form.
//
// The client doesn't say which of the user's app passwords it has: the one is found whose response this is. What finds none is a guess,
// and is counted like one of an app password that isn't there, before anybody is told. Whoever is named, and however many he has, the same
// number of responses is computed.
func (s *Service) AppPasswordOverDigest(ctx context.Context, name string, c *legacy.DigestCredential, use gate.Use) (gate.Holder, error) {
	try, user, err := s.attempt(ctx, name, use)
	if err != nil {
		return gate.Holder{}, err
	}
	a, err := s.Accounts.Get(ctx, user.ID)
	if err != nil {
		return gate.Holder{}, err
	}
	issued, genuine := s.nonces.issued(c.Nonce, use.Application, use.Now)
	genuine = genuine && use.Line.Is(c.URI)
	p := s.overDigest.answers(user, a, c, use)
	if _, waits := s.waiting.get(try.place(), use.Now); p == nil && genuine && !waits { // guesses must not each ask the store
		// It may have been made a moment ago by another process, whose news is on the way.
		if a, err = s.Accounts.LoadClosed(ctx, user.ID); err != nil {
			return gate.Holder{}, err
		}
		p = s.overDigest.answers(user, a, c, use)
	}
	if p == nil || !genuine {
		try.typed.text = "response " + hex.EncodeToString(c.Response) + c.CNonce
		return gate.Holder{}, s.prove(ctx, try, use.Now, func() bool { return false })
	}
	try.Key, try.event.Credential, try.typed.text = p.ID, p.ID, "response of "+p.ID
	if reason := s.wrongUse(user, a, p, use); reason != "" {
		return gate.Holder{}, s.refused(try.event, reason)
	}
	if use.Now.Sub(issued) >= nonceLife {
		return gate.Holder{}, gate.ErrStale
	}
	if err := s.prove(ctx, try, use.Now, func() bool { return true }); err != nil {
		return gate.Holder{}, err
	}
	if !s.Counts.use(c.Nonce, issued, c.Count, use.Now) {
		try.event.Type, try.event.Reason = audit.KeyRefused, "sent before"
		s.Sink.Audit(try.event)
		return gate.Holder{}, gate.ErrStale
	}
	s.note(try.owner, p.ID, p.LastUsed, use.Now, func(ctx context.Context) error {
		return s.Accounts.UseAppPassword(ctx, user.ID, p, use.Now, account.Renewed{HTTPDigest: s.overDigest.renew(user.ID, p)})
	})
	return gate.Holder{User: user, Account: a, Key: p.ID, Name: p.Name, Expires: p.Expires}, nil
}

// offered are the algorithms of the challenges. Programs that know SHA-256 find it. Of those that know MD5 alone, some look at the first challenge
// and no other (w3m), and some at the last (svn).
var offered = [...]legacy.DigestAlgorithm{legacy.MD5, legacy.SHA256, legacy.MD5}

// Challenges ask for an app password over HTTP Digest (RFC 7616, section 3.3).
func (s *Service) Challenges(application string, stale bool, now time.Time) []string {
	nonce, ending := s.nonces.make(application, now), ""
	if stale {
		ending = ", stale=true"
	}
	challenges := make([]string, len(offered))
	for i, algorithm := range offered {
		challenges[i] = `Digest realm="` + gate.AppPasswordRealm(application) + `", qop="auth", algorithm=` + string(algorithm) + `, nonce="` + nonce + `"` + ending
	}
	return challenges
}

// digestHash is a hash function of HTTP Digest.
type digestHash struct {
	algorithm legacy.DigestAlgorithm
	new       func() hash.Hash
	at, size  int // where H(A1) stands in what is kept for a name
}

// digestHashes are all of them. MD5 is what old programs know. What is hashed makes it safe here: an app password has 100 random bits, and nobody
// finds what an MD5 was made of.
var digestHashes = [...]digestHash{{legacy.MD5, md5.New, sha256.Size, md5.Size}, {legacy.SHA256, sha256.New, 0, sha256.Size}}

// keptOfName is how many bytes are kept for one spelling of the user's name.
const keptOfName = sha256.Size + md5.Size

// sum is H(part:part:…).
func (h *digestHash) sum(parts ...string) []byte {
	d := h.new()
	d.Write([]byte(strings.Join(parts, ":")))
	return d.Sum(nil)
}

// response is what a client that knows H(A1) sends (RFC 7616, section 3.4.1).
func (h *digestHash) response(ha1 []byte, c *legacy.DigestCredential, method string) []byte {
	a2 := hex.EncodeToString(h.sum(method, c.URI))
	return h.sum(hex.EncodeToString(ha1), c.Nonce, c.NC, c.CNonce, "auth", a2)
}

// overDigest keeps of an app password what HTTP Digest needs: H(A1), which is as good as the password over Digest, and over nothing else.
// It is sealed for its user and everything that the app password is good for, so that a record that was moved or altered opens nothing.
type overDigest struct {
	sealer *seal.Sealer
	nobody []byte // stands in for what isn't there
}

func newOverDigest(keys *seal.Keyring) *overDigest {
	d := &overDigest{sealer: keys.Sealer("app password over digest")}
	d.nobody = d.sealer.Seal(make([]byte, keptOfName), nobodysParts()...)
	return d
}

// nobodysParts cost what those of an app password do.
func nobodysParts() []string {
	return passwordParts(mfa.UserID{Directory: "nobody", ID: "nobody"}, &account.AppPassword{}, "")
}

// namesOf are the spellings of a user's name that a client may hash: his directory's, and the canonical one if that is another.
func namesOf(u *mfa.User) []string {
	if u.Name == u.Canonical {
		return []string{u.Name}
	}
	return []string{u.Name, u.Canonical}
}

// seal makes what is kept of an app password in the form in which it is shown.
func (d *overDigest) seal(u *mfa.User, owner mfa.UserID, p *account.AppPassword, shown string) []byte {
	names := namesOf(u)
	kept := make([]byte, keptOfName*len(names))
	for i, name := range names {
		for _, h := range digestHashes {
			copy(kept[i*keptOfName+h.at:], h.sum(name, gate.AppPasswordRealm(p.Application), shown))
		}
	}
	return d.sealer.Seal(kept, passwordParts(owner, p, "")...)
}

// renew seals with the newest secret what was sealed with another; nil: there is nothing to do.
func (d *overDigest) renew(owner mfa.UserID, p *account.AppPassword) []byte {
	if len(p.HTTPDigest) == 0 || !d.sealer.Stale(p.HTTPDigest) {
		return nil
	}
	kept, err := d.sealer.Open(p.HTTPDigest, passwordParts(owner, p, "")...)
	if err != nil {
		return nil
	}
	return d.sealer.Seal(kept, passwordParts(owner, p, "")...)
}

// answers finds the app password whose response a client has sent; nil: none. It always does as much as for a user with as many as there
// can be: what is missing is made up for.
func (d *overDigest) answers(u *mfa.User, a *account.Account, c *legacy.DigestCredential, use gate.Use) (found *account.AppPassword) {
	h := &digestHashes[0]
	if c.Algorithm == legacy.SHA256 {
		h = &digestHashes[1]
	}
	at := h.at
	if c.User != u.Name && c.User == u.Canonical {
		at += keptOfName
	}
	tried := 0
	for _, p := range a.AppPasswords {
		if p.Application != use.Application || len(p.HTTPDigest) == 0 {
			continue
		}
		tried++
		kept, err := d.sealer.Open(p.HTTPDigest, passwordParts(a.ID, p, "")...)
		if ok := err == nil && len(kept) >= at+h.size; !ok {
			kept, p = make([]byte, at+h.size), nil
		}
		if hmac.Equal(h.response(kept[at:at+h.size], c, use.Line.Method), c.Response) && p != nil {
			found = p
		}
	}
	if found != nil {
		return found
	}
	for ; tried < MaxAppPasswords; tried++ {
		kept, err := d.sealer.Open(d.nobody, nobodysParts()...)
		if err != nil {
			kept = make([]byte, keptOfName)
		}
		hmac.Equal(h.response(kept[h.at:h.at+h.size], c, use.Line.Method), c.Response)
	}
	return nil
}
