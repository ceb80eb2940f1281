package notice

import (
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/caddy-mfa/caddy-mfa/internal/audit"
	"github.com/caddy-mfa/caddy-mfa/internal/directory"
	"github.com/caddy-mfa/caddy-mfa/internal/mfa"
	"github.com/caddy-mfa/caddy-mfa/internal/sender"
	"github.com/caddy-mfa/caddy-mfa/internal/throttle"
)

const (
	// gather is how long a mail waits for what else happens to the same person. Replacing what was lost takes several factors away.
	gather = 5 * time.Second

	// atOnce is how many people are being told at most. A mail server that hangs must not fill the memory.
	atOnce = 256

	// maxChanges is how many of them stand in one mail.
	maxChanges = 20

	// maxLanguage bounds what is kept of a header, in bytes. No browser sends a longer one.
	maxLanguage = 256

	// patience is how long directory and store may take.
	patience = 10 * time.Second
)

// pauses are those between attempts to send a mail that nobody has accepted.
var pauses = []time.Duration{time.Minute, 5 * time.Minute}

// Teller tells people. Its fields are set once; it is safe for concurrent use.
type Teller struct {
	Users interface {
		ByID(ctx context.Context, id mfa.UserID) (*mfa.User, error)
	}
	Messages *throttle.Messages
	Courier  *sender.Courier
	Compose  func(m *mfa.Message, n Notice, languages ...string) // writes a mail, in the first of these languages that there is

	// Confirmed gives the mail addresses that a person has confirmed, for who has none in the directory.
	Confirmed func(ctx context.Context, id mfa.UserID) ([]string, error)

	Sink func(audit.Event) // is told what was told; must not block
	Log  *slog.Logger

	mu      sync.Mutex
	waiting map[mfa.UserID]*letter // mails that more may be put into
	open    int                    // mails that have not been sent
	stopped bool
	stop    chan struct{}
	done    sync.WaitGroup
}

// letter is a mail that is being written.
type letter struct {
	notice    Notice
	event     audit.Event // the first
	languages []string
	old       []string // addresses that were taken away: their owners are told too
}

// NewTeller gives a Teller whose fields are to be set.
func NewTeller() *Teller {
	return &Teller{waiting: map[mfa.UserID]*letter{}, stop: make(chan struct{})}
}

// Run keeps telling people until ctx ends. What waits then is sent at once, and not a second time.
func (t *Teller) Run(ctx context.Context) {
	<-ctx.Done()
	t.mu.Lock()
	t.stopped = true
	close(t.stop)
	t.mu.Unlock()
	t.done.Wait()
}

// Audit takes what has happened. It does not block.
func (t *Teller) Audit(e audit.Event) {
	c, ok := changeOf(e, time.Now())
	if !ok {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	l := t.waiting[e.UserID]
	switch {
	case l == nil && t.stopped:
		t.tell(e, "shutting down")
		return
	case l == nil && t.open >= atOnce:
		t.tell(e, "busy")
		return
	case l == nil:
		l = &letter{event: e}
		t.waiting[e.UserID] = l
		t.open++
		t.done.Go(func() { t.bring(l) })
	}
	if l.notice.Host == "" {
		l.notice.Host = e.Host
	}
	if e.Language != "" && len(e.Language) <= maxLanguage && !slices.Contains(l.languages, e.Language) && len(l.languages) < maxChanges {
		l.languages = append(l.languages, e.Language)
	}
	if len(l.old)+len(e.Old) <= maxChanges {
		l.old = append(l.old, e.Old...)
	}
	if len(l.notice.Changes) < maxChanges {
		l.notice.Changes = append(l.notice.Changes, c)
	} else {
		l.notice.More++
	}
}

// bring waits for what else happens, and sends the mail.
func (t *Teller) bring(l *letter) {
	t.pause(gather)
	t.mu.Lock()
	delete(t.waiting, l.event.UserID) // from now on nobody else touches it
	t.mu.Unlock()
	defer func() {
		t.mu.Lock()
		t.open--
		t.mu.Unlock()
	}()
	mails, reason := t.write(l)
	if reason != "" {
		t.tell(l.event, reason)
	}
	for _, m := range mails {
		t.tell(l.event, t.send(m))
	}
}

// write writes the mails that tell of a letter, one for each address. reason says why one of them, or all, are not sent.
func (t *Teller) write(l *letter) (mails []*mfa.Message, reason string) {
	var user *mfa.User
	var to []string
	err := t.persist(func(ctx context.Context) (err error) {
		if user, err = t.Users.ByID(ctx, l.event.UserID); err != nil {
			return err
		}
		to, err = t.addresses(ctx, user, l.old)
		return err
	})
	switch {
	case errors.Is(err, directory.ErrUnknown):
		return nil, "unknown"
	case err != nil:
		t.Log.Error("finding out whom to tell of a change", "user", l.event.User, "error", err)
		return nil, "unavailable"
	case len(to) == 0:
		return nil, "no address"
	}
	l.notice.User = user.Name
	for _, address := range to {
		n := l.notice
		err := t.persist(func(ctx context.Context) error {
			left, err := t.Messages.ChargeNotice(ctx, user.ID, address, time.Now())
			n.Last = left == 0
			return err
		})
		var wait *throttle.WaitError
		switch {
		case errors.Is(err, throttle.ErrStopped):
			reason = "stopped"
		case errors.As(err, &wait):
			reason = wait.Scope
		case err != nil:
			t.Log.Error("counting mails about changes", "user", l.event.User, "error", err)
			reason = "unavailable"
		default:
			m := &mfa.Message{ID: rand.Text(), Method: mfa.Email, To: address}
			t.Compose(m, n, append([]string{user.Language}, l.languages...)...)
			mails = append(mails, m)
		}
	}
	return mails, reason
}

// addresses are where a person is told: where his directory says, else where he has shown that he reads, and where he can't be any more.
func (t *Teller) addresses(ctx context.Context, user *mfa.User, old []string) (to []string, err error) {
	if user.Email != "" {
		to = []string{user.Email}
	} else if to, err = t.Confirmed(ctx, user.ID); err != nil {
		return nil, err
	}
	for _, address := range old {
		if !slices.ContainsFunc(to, func(other string) bool { return strings.EqualFold(other, address) }) {
			to = append(to, address)
		}
	}
	return to, nil
}

// send hands a mail over, and gives why it was not accepted; empty: it was, or may have been.
func (t *Teller) send(m *mfa.Message) (reason string) {
	err := t.persist(func(ctx context.Context) error {
		// A server that nobody reaches is known for that only when its time is over.
		return t.Courier.Await(ctx, m, func(context.Context) bool { return true })
	})
	switch {
	case errors.Is(err, sender.ErrBusy):
		return "busy"
	case err != nil:
		return "not accepted"
	}
	return ""
}

// persist does something, and does it again where a pause may help.
func (t *Teller) persist(do func(context.Context) error) error {
	for try := 0; ; try++ {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		err := do(ctx)
		cancel()
		var wait *throttle.WaitError
		if err == nil || errors.As(err, &wait) || errors.Is(err, throttle.ErrStopped) || errors.Is(err, directory.ErrUnknown) || try == len(pauses) || !t.pause(pauses[try]) {
			return err
		}
	}
}

// pause waits, and says whether that was not cut short by the end.
func (t *Teller) pause(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-t.stop:
		return false
	}
}

// tell notes whether somebody was told; an empty reason: he was.
func (t *Teller) tell(e audit.Event, reason string) {
	told := audit.Event{Type: audit.ChangeTold, User: e.User, UserID: e.UserID, Session: e.Session, Reference: e.Reference, Reason: reason}
	if reason != "" {
		told.Type = audit.ChangeNotTold
	}
	t.Sink(told)
}
