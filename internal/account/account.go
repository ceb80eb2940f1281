// Package account is what is kept of a person: his state, his factors, what was counted against them, and since when
// he should have registered one. It may not be lost; see Generation.
package account

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/caddy-mfa/caddy-mfa/internal/mfa"
	"github.com/caddy-mfa/caddy-mfa/internal/seal"
	"github.com/caddy-mfa/caddy-mfa/internal/store"
	"github.com/caddy-mfa/caddy-mfa/internal/throttle"
)

// State is the part of an account that is neither a factor nor a counter.
type State struct {
	Name    string    `json:"name"` // canonical user name at the last sign-in
	Created time.Time `json:"created"`

	// Epoch changes whenever a factor is added, removed or reset, and when the person is blocked. Sessions and
	// known browsers that were issued before end with it.
	Epoch uint64 `json:"epoch"`

	// EpochBy is the session in which the person has begun this epoch. It outlives the one before; empty: none does.
	EpochBy string `json:"epoch_by,omitempty"`

	// GraceStarted is when the time to register a second factor began to run: at the first sign-in for which one
	// was required. It is set once, whatever is configured later.
	GraceStarted time.Time `json:"grace_started,omitzero"`

	// Registered is when the first factor was registered. From then on there is no grace any more.
	Registered time.Time `json:"registered,omitzero"`

	// PassRequired says that an administrator has removed the factors: the next one may be registered only with
	// a temporary access pass.
	PassRequired bool `json:"pass_required,omitempty"`

	// PerUser is the person's own setting of multi-factor authentication. PerUserSince is when he was asked for a second factor by
	// it: the time to register runs from then. Until he has registered it stays what it was at first, also when the setting is taken
	// back and made again.
	PerUser      mfa.PerUserState `json:"per_user_mfa,omitempty"`
	PerUserSince time.Time        `json:"per_user_mfa_since,omitzero"`

	// Terms says which terms of use the person has accepted, by name.
	Terms map[string]mfa.Acceptance `json:"terms,omitempty"`

	// Forgotten counts how often every remembered browser was forgotten at once.
	Forgotten uint64 `json:"forgotten,omitempty"`

	// Blocked refuses everything until it is taken away.
	Blocked *Block `json:"blocked,omitempty"`

	// AppPasswordsMade is how many app passwords were ever made.
	AppPasswordsMade uint64 `json:"app_passwords_made,omitempty"`
}

// Block says since when an administrator has refused a person, and why.
type Block struct {
	At     time.Time `json:"at"`
	Reason string    `json:"reason,omitempty"`
}

// Account is what is kept of one person, as it was read. A person of whom nothing is kept has an account without
// factors. Only the function that Service.Update calls may change one.
type Account struct {
	ID           mfa.UserID
	State        State
	Credentials  []mfa.Credential // sorted by ID
	AppPasswords []*AppPassword   // sorted by ID; those that have expired may be among them
	Browsers     []Browser        // remembered, sorted by ID

	codes     map[string]throttle.Codes // by key of the record
	upstreams map[string]upstream       // by application

	read snapshot
}

// snapshot is what an account was made of, to see what has changed since.
type snapshot struct {
	state        State
	credentials  map[string]mfa.Credential
	appPasswords map[string]*AppPassword
	codes        map[string]throttle.Codes
	upstreams    map[string]upstream
	browsers     map[string]Browser
	order        []string                 // their ids
	versions     map[string]store.Version // of every record, by key
	stale        map[string]bool          // ids of credentials that are sealed with an older secret
}

const (
	stateKey         = "state"
	credentialPrefix = "credential/"
	codesPrefix      = "failures/"
)

const partitionPrefix = "account/"

// partition is partitionPrefix and id.String(), made at once: it is needed at every request.
func partition(id mfa.UserID) string {
	return partitionPrefix + id.Directory + "/" + url.PathEscape(id.ID)
}

// CredentialsOf gives the credentials of one method, also those that have expired.
func (a *Account) CredentialsOf(m mfa.Method) []mfa.Credential {
	var of []mfa.Credential
	for _, c := range a.Credentials {
		if c.Method == m {
			of = append(of, c)
		}
	}
	return of
}

// Credential finds a credential by id.
func (a *Account) Credential(id string) (mfa.Credential, bool) {
	for _, c := range a.Credentials {
		if c.ID == id {
			return c, true
		}
	}
	return mfa.Credential{}, false
}

// Exists says whether the person has ever signed in, or an administrator has done something for him.
func (a *Account) Exists() bool { return a.read.versions[stateKey] != 0 }

// BeginEpoch ends the sessions, known and remembered browsers that were issued before, but for the session in which the person does
// this himself; empty: every one.
func (a *Account) BeginEpoch(by string) {
	a.State.Epoch, a.State.EpochBy = a.State.Epoch+1, by
	a.ForgetBrowsers()
}

// Honors says whether a session was issued with the factors that the account has, or is the one that has changed them.
func (a *Account) Honors(s *mfa.Session) bool {
	return s.CredentialEpoch == a.State.Epoch || s.CredentialEpoch+1 == a.State.Epoch && s.ID == a.State.EpochBy && s.ID != ""
}

// Registered says whether the person has a factor of his own: one that lasts, unlike recovery codes and temporary
// access passes.
func (a *Account) Registered() bool {
	return slices.ContainsFunc(a.Credentials, func(c mfa.Credential) bool { return Lasting(c.Method) })
}

// lasting are the methods of the factors that a person registers and goes on using, the strongest first.
var lasting = []mfa.Method{mfa.Passkey, mfa.Push, mfa.TOTP, mfa.SMS, mfa.Voice, mfa.Email}

// Lasting says whether a credential of this method is a factor that a person registers and goes on using.
func Lasting(m mfa.Method) bool { return slices.Contains(lasting, m) }

// Factors gives the credentials that last, the strongest first.
func (a *Account) Factors() (of []mfa.Credential) {
	for _, m := range lasting {
		of = append(of, a.CredentialsOf(m)...)
	}
	return of
}

// DirectoryPhone is the id of the credential that stands for the number in the person's directory. It comes and goes with that.
const DirectoryPhone = "directory-phone"

// Proves says whether a credential can be proven by the method: its own, and a phone that takes messages is one that can be called.
func Proves(c mfa.Credential, m mfa.Method) bool {
	return c.Method == m || c.Method == mfa.SMS && m == mfa.Voice
}

// CredentialsFor gives the credentials that can be proven by the method.
func (a *Account) CredentialsFor(m mfa.Method) (of []mfa.Credential) {
	for _, c := range a.Credentials {
		if Proves(c, m) {
			of = append(of, c)
		}
	}
	return of
}

// Put adds a credential, or replaces the one with its id.
func (a *Account) Put(c mfa.Credential) {
	a.Remove(c.ID)
	a.Credentials = append(a.Credentials, c)
	slices.SortFunc(a.Credentials, func(x, y mfa.Credential) int { return strings.Compare(x.ID, y.ID) })
}

// Remove takes a credential away.
func (a *Account) Remove(id string) {
	a.Credentials = slices.DeleteFunc(slices.Clone(a.Credentials), func(c mfa.Credential) bool { return c.ID == id })
}

// NewCredentialID makes an id that no other credential has.
func NewCredentialID() string {
	var b [8]byte
	rand.Read(b[:]) // never fails, see crypto/rand
	return hex.EncodeToString(b[:])
}

// Codes gives what was counted against a method in a lane: from a browser that is known to be the person's (its id),
// or from all others together (empty). So strangers can lock each other out, but not him.
func (a *Account) Codes(m mfa.Method, lane string) throttle.Codes { return a.codes[codesKey(m, lane)] }

// SetCodes replaces what was counted; the zero Codes forgets it.
func (a *Account) SetCodes(m mfa.Method, lane string, c throttle.Codes) {
	a.codes[codesKey(m, lane)] = c
}

// ForgetCodesOf forgets every count of a method.
func (a *Account) ForgetCodesOf(m mfa.Method) {
	for key := range a.codes {
		if key == codesKey(m, "") || strings.HasPrefix(key, codesKey(m, "")+"/") {
			a.codes[key] = throttle.Codes{}
		}
	}
}

// ForgetCodes forgets every count.
func (a *Account) ForgetCodes() {
	for key := range a.codes {
		a.codes[key] = throttle.Codes{}
	}
}

// Locked lists the methods that only an administrator can unlock again.
func (a *Account) Locked() []mfa.Method {
	var locked []mfa.Method
	for _, key := range slices.Sorted(maps.Keys(a.codes)) {
		if a.codes[key].Locked() {
			method, _, _ := strings.Cut(strings.TrimPrefix(key, codesPrefix), "/")
			locked = append(locked, mfa.Method(method))
		}
	}
	return slices.Compact(locked)
}

func codesKey(m mfa.Method, lane string) string {
	if lane == "" {
		return codesPrefix + string(m)
	}
	return codesPrefix + string(m) + "/" + lane
}

// keepLane is for how long failures from a known browser are remembered after the last one.
const keepLane = 30 * 24 * time.Hour

// credentialRecord is how a credential is kept. What belongs to the factor is sealed, bound to account, credential and method.
type credentialRecord struct {
	Method   mfa.Method `json:"method"`
	Name     string     `json:"name,omitempty"`
	Added    time.Time  `json:"added"`
	LastUsed time.Time  `json:"last_used,omitzero"`
	Starts   time.Time  `json:"starts,omitzero"`
	Expires  time.Time  `json:"expires,omitzero"`
	RP       string     `json:"rp,omitempty"`
	Model    string     `json:"model,omitempty"`
	Sealed   []byte     `json:"sealed"`
}

// sealedFor is whose a factor's data is. A model that somebody vouched for belongs to it: it can't be given to another passkey.
func sealedFor(id mfa.UserID, c mfa.Credential) []string {
	owner := []string{id.String(), c.ID, string(c.Method)}
	if c.Model != "" {
		owner = append(owner, c.Model)
	}
	return owner
}

var errForeign = errors.New("record was written by another version of caddy-mfa, or damaged")

// decode makes an account of the records of its partition. Without a sealer, the factors' own data stays closed.
func decode(id mfa.UserID, records []store.Record, sealer *seal.Sealer) (*Account, error) {
	a := &Account{ID: id, codes: map[string]throttle.Codes{}, upstreams: map[string]upstream{}, read: snapshot{
		credentials: map[string]mfa.Credential{}, appPasswords: map[string]*AppPassword{}, codes: map[string]throttle.Codes{}, browsers: map[string]Browser{}, versions: map[string]store.Version{}, stale: map[string]bool{},
	}}
	for _, r := range records {
		a.read.versions[r.Key] = r.Version
		var err error
		switch {
		case r.Key == stateKey:
			err = json.Unmarshal(r.Value, &a.State)
		case strings.HasPrefix(r.Key, credentialPrefix):
			var kept credentialRecord
			credentialID := strings.TrimPrefix(r.Key, credentialPrefix)
			if err = json.Unmarshal(r.Value, &kept); err != nil {
				break
			}
			c := mfa.Credential{ID: credentialID, Method: kept.Method, Name: kept.Name, Added: kept.Added, LastUsed: kept.LastUsed, Starts: kept.Starts, Expires: kept.Expires, RP: kept.RP, Model: kept.Model}
			if sealer != nil {
				if c.Data, err = sealer.Open(kept.Sealed, sealedFor(id, c)...); err != nil {
					break
				}
				a.read.stale[c.ID] = sealer.Stale(kept.Sealed)
			}
			a.Credentials = append(a.Credentials, c)
			a.read.credentials[c.ID] = c
		case strings.HasPrefix(r.Key, appPasswordPrefix):
			var p *AppPassword
			if p, err = decodeAppPassword(r.Key, r.Value); err == nil {
				a.AppPasswords = append(a.AppPasswords, p)
				a.read.appPasswords[p.ID] = p
			}
		case strings.HasPrefix(r.Key, codesPrefix):
			var c throttle.Codes
			if err = json.Unmarshal(r.Value, &c); err == nil {
				a.codes[r.Key] = c
			}
		case strings.HasPrefix(r.Key, upstreamPrefix):
			err = a.decodeUpstream(r)
		case strings.HasPrefix(r.Key, browserPrefix):
			var b Browser
			if b, err = decodeBrowser(r); err == nil {
				a.Browsers, a.read.browsers[b.ID], a.read.order = append(a.Browsers, b), b, append(a.read.order, b.ID)
			}
		default:
			err = errForeign
		}
		if err != nil {
			// Fails as a whole: a factor that can't be read must not look like a factor that isn't there.
			return nil, fmt.Errorf("reading record %s of account %s: %w", r.Key, id, err)
		}
	}
	a.read.state = a.State
	a.read.codes = maps.Clone(a.codes)
	a.read.upstreams = maps.Clone(a.upstreams)
	return a, nil
}

// changes lists what must be written so that the store holds what a now says, and whether other processes must know.
// The state is part of every commit: it is written, or must not have changed.
func (a *Account) changes(sealer *seal.Sealer, now time.Time) (changes []store.Change, notify bool, err error) {
	put := func(key string, value any, expires time.Time) error {
		raw, err := json.Marshal(value)
		if err != nil {
			return fmt.Errorf("writing record %s of account %s: %w", key, a.ID, err)
		}
		changes = append(changes, store.Change{Key: key, If: a.read.versions[key], Value: raw, Expires: expires})
		return nil
	}
	remove := func(key string) {
		changes = append(changes, store.Change{Key: key, Op: store.Delete, If: a.read.versions[key]})
	}

	if !a.State.equal(a.read.state) {
		notify = true
		if err := put(stateKey, a.State, time.Time{}); err != nil {
			return nil, false, err
		}
	}
	present := map[string]bool{}
	for _, c := range a.Credentials {
		present[c.ID] = true
		before, existed := a.read.credentials[c.ID]
		if existed && same(before, c) && !a.read.stale[c.ID] {
			continue
		}
		notify = notify || !existed || before.Method != c.Method || !before.Starts.Equal(c.Starts) || !before.Expires.Equal(c.Expires) || before.RP != c.RP || before.Model != c.Model
		sealed := sealer.Seal(c.Data, sealedFor(a.ID, c)...)
		if err := put(credentialPrefix+c.ID, credentialRecord{c.Method, c.Name, c.Added, c.LastUsed, c.Starts, c.Expires, c.RP, c.Model, sealed}, c.Expires); err != nil {
			return nil, false, err
		}
	}
	for _, id := range slices.Sorted(maps.Keys(a.read.credentials)) {
		if !present[id] {
			notify = true
			remove(credentialPrefix + id)
		}
	}
	upstreamsChanged, err := a.upstreamChanges(put, remove)
	if err != nil {
		return nil, false, err
	}
	changed, err := a.appPasswordChanges(put, remove)
	if err != nil {
		return nil, false, err
	}
	browsersChanged, err := a.browserChanges(put, remove)
	if err != nil {
		return nil, false, err
	}
	notify = notify || changed || upstreamsChanged || browsersChanged
	for _, key := range slices.Sorted(maps.Keys(a.codes)) {
		switch c := a.codes[key]; c {
		case a.read.codes[key]:
			if a.read.versions[key] == 0 {
				// Nothing was counted, and nothing is to be. A wrong code that is counted meanwhile must not be passed by.
				changes = append(changes, store.Change{Key: key, Op: store.Expect})
			}
		case throttle.Codes{}:
			remove(key)
		default:
			var expires time.Time
			if strings.Count(key, "/") > 1 {
				expires = now.Add(keepLane)
			}
			if err := put(key, c, expires); err != nil {
				return nil, false, err
			}
		}
	}
	if len(changes) > 0 && changes[0].Key != stateKey {
		changes = append(changes, store.Change{Key: stateKey, Op: store.Expect, If: a.read.versions[stateKey]})
	}
	return changes, notify, nil
}

func (s State) equal(other State) bool {
	x, errX := json.Marshal(s)
	y, errY := json.Marshal(other)
	return errX == nil && errY == nil && bytes.Equal(x, y)
}

func same(x, y mfa.Credential) bool {
	return x.Method == y.Method && x.Name == y.Name && x.Added.Equal(y.Added) && x.LastUsed.Equal(y.LastUsed) &&
		x.Starts.Equal(y.Starts) && x.Expires.Equal(y.Expires) && x.RP == y.RP && x.Model == y.Model && bytes.Equal(x.Data, y.Data)
}
