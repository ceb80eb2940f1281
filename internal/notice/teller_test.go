package notice

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-mfa/caddy-mfa/internal/audit"
	"github.com/caddy-mfa/caddy-mfa/internal/directory"
	"github.com/caddy-mfa/caddy-mfa/internal/mfa"
	"github.com/caddy-mfa/caddy-mfa/internal/sender"
	"github.com/caddy-mfa/caddy-mfa/internal/store"
	"github.com/caddy-mfa/caddy-mfa/internal/throttle"
)

// world is a directory, a mail server and a log.
type world struct {
	mu     sync.Mutex
	users  map[string]*mfa.User
	down   int // how many times more the directory doesn't answer
	mails  []*mfa.Message
	refuse int           // how many mails more the server refuses
	slow   time.Duration // until it says so
	hang   bool
	events []audit.Event
}

func (w *world) ByID(_ context.Context, id mfa.UserID) (*mfa.User, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.down > 0 {
		w.down--
		return nil, directory.ErrUnavailable
	}
	if u := w.users[id.ID]; u != nil {
		return u, nil
	}
	return nil, directory.ErrUnknown
}

func (w *world) Send(ctx context.Context, m *mfa.Message) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.hang {
		w.mu.Unlock()
		<-ctx.Done()
		w.mu.Lock()
		return ctx.Err()
	}
	if w.refuse > 0 {
		w.refuse--
		w.mu.Unlock()
		time.Sleep(w.slow)
		w.mu.Lock()
		return fmt.Errorf("%w: try later", mfa.ErrNotAccepted)
	}
	w.mails = append(w.mails, m)
	return nil
}

func (w *world) note(e audit.Event) { w.mu.Lock(); w.events = append(w.events, e); w.mu.Unlock() }

// told gives what the log says: the reasons, empty for who was told.
func (w *world) told() (reasons []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, e := range w.events {
		if (e.Type == audit.ChangeTold) != (e.Reason == "") {
			reasons = append(reasons, "contradiction")
		}
		reasons = append(reasons, e.Reason)
	}
	return reasons
}

func (w *world) texts() (texts []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, m := range w.mails {
		texts = append(texts, m.To+" "+m.Text)
	}
	return texts
}

func id(name string) mfa.UserID { return mfa.UserID{Directory: "file", ID: name} }

func person(name string) *mfa.User {
	return &mfa.User{ID: id(name), Name: name, Canonical: name, Email: name + "@example.com", Language: "nl"}
}

var limits = throttle.MessageLimits{User: 3, Number: 100, Prefix: 1, Total: 100}

// start gives a teller that runs until the test ends, or stop is called.
func start(t *testing.T, w *world) (teller *Teller, stop func()) {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	teller = NewTeller()
	teller.Users, teller.Log, teller.Sink = w, log, w.note
	teller.Messages = throttle.NewMessages(store.NewMemory(), limits)
	teller.Confirmed = func(_ context.Context, id mfa.UserID) ([]string, error) {
		if id.ID == "carl" {
			return []string{"carl@example.org"}, nil
		}
		return nil, nil
	}
	teller.Compose = func(m *mfa.Message, n Notice, languages ...string) {
		m.Text = fmt.Sprint(n.User, " ", len(n.Changes), " changes, ", n.More, " more, last ", n.Last, " ", languages)
	}
	ctx, cancel := context.WithCancel(t.Context())
	teller.Courier = sender.NewCourier(map[mfa.Method][]sender.Route{mfa.Email: {{Name: "mailserver", Sender: w, Timeout: 30 * time.Second}}}, func(sender.Report) {}, log, ctx.Done())
	ended := make(chan struct{})
	go func() { teller.Run(ctx); close(ended) }()
	stop = func() { cancel(); <-ended }
	t.Cleanup(stop)
	return teller, stop
}

func added(name string) audit.Event {
	return audit.Event{Type: audit.FactorRegistered, User: name, UserID: id(name), Method: mfa.TOTP, Language: "en"}
}

func TestWhatHappensTogetherStandsInOneMail(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &world{users: map[string]*mfa.User{"alice": person("alice"), "bob": person("bob")}}
		teller, _ := start(t, w)
		teller.Audit(added("alice"))
		time.Sleep(gather / 2)
		teller.Audit(added("alice"))
		teller.Audit(added("bob"))
		time.Sleep(gather / 2)
		synctest.Wait()
		if got, want := w.texts(), []string{"alice@example.com alice 2 changes, 0 more, last false [nl en]"}; !slices.Equal(got, want) {
			t.Errorf("after %v: %q, want %q", gather, got, want)
		}
		time.Sleep(gather / 2)
		teller.Audit(added("alice"))
		time.Sleep(gather)
		synctest.Wait()
		if got := w.texts(); len(got) != 3 || !strings.Contains(got[2], "alice 1 changes") {
			t.Errorf("in the end: %q", got)
		}
		if got := w.told(); !slices.Equal(got, []string{"", "", ""}) {
			t.Errorf("the log says %q", got)
		}
	})
}

// TestNobodyIsBombed makes many changes: a mail holds so many of them, and a person gets so many mails a day, of which the last says so.
func TestNobodyIsBombed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &world{users: map[string]*mfa.User{"alice": person("alice"), "bob": person("bob")}}
		teller, _ := start(t, w)
		for range 1000 {
			teller.Audit(added("alice"))
		}
		for range 5 {
			time.Sleep(time.Minute)
			teller.Audit(added("alice"))
		}
		time.Sleep(time.Minute)
		teller.Audit(added("bob"))
		time.Sleep(time.Minute)
		synctest.Wait()
		want := []string{
			"alice@example.com alice 20 changes, 980 more, last false [nl en]", "alice@example.com alice 1 changes, 0 more, last false [nl en]",
			"alice@example.com alice 1 changes, 0 more, last true [nl en]", "bob@example.com bob 1 changes, 0 more, last false [nl en]",
		}
		if got := w.texts(); !slices.Equal(got, want) {
			t.Errorf("%q, want %q", got, want)
		}
		if got := w.told(); !slices.Equal(got, []string{"", "", "", "messages to the user", "messages to the user", "messages to the user", ""}) {
			t.Errorf("the log says %q", got)
		}
		time.Sleep(24 * time.Hour)
		teller.Audit(added("alice"))
		time.Sleep(time.Minute)
		synctest.Wait()
		if got := w.texts(); len(got) != 5 {
			t.Errorf("the day after: %q", got)
		}
	})
}

func TestWhoIsTold(t *testing.T) {
	silent := person("silent")
	silent.Email = ""
	carl := person("carl")
	carl.Email = ""
	removed := audit.Event{Type: audit.FactorRemoved, User: "alice", UserID: id("alice"), Method: mfa.Email, Old: []string{"before@example.org"}}
	same := removed
	same.Old = []string{"ALICE@example.com"}
	reset := audit.Event{Type: audit.FactorsReset, User: "silent", UserID: id("silent"), By: "admin", Old: []string{"one@example.org", "two@example.org"}}
	many := reset
	many.Old = []string{"1@example.org", "2@example.org", "3@example.org", "4@example.org"}
	for reason, tc := range map[string]struct {
		event audit.Event
		world *world
		to    []string
		told  []string
	}{
		"whom the directory has an address of":       {added("alice"), &world{}, []string{"alice@example.com"}, []string{""}},
		"who has shown that he reads one":            {added("carl"), &world{}, []string{"carl@example.org"}, []string{""}},
		"whoever reads the one that was removed":     {removed, &world{}, []string{"alice@example.com", "before@example.org"}, []string{"", ""}},
		"whoever reads those that a reset removes":   {reset, &world{}, []string{"one@example.org", "two@example.org"}, []string{"", ""}},
		"as many as there may be, and no more":       {many, &world{}, []string{"1@example.org", "2@example.org", "3@example.org"}, []string{"messages to the user", "", "", ""}},
		"once, if that is the directory's":           {same, &world{}, []string{"alice@example.com"}, []string{""}},
		"nobody, without an address":                 {added("silent"), &world{}, nil, []string{"no address"}},
		"nobody whom the directory does not know":    {added("zoe"), &world{}, nil, []string{"unknown"}},
		"once the directory answers":                 {added("alice"), &world{down: 2}, []string{"alice@example.com"}, []string{""}},
		"nobody, while the directory does not":       {added("alice"), &world{down: 99}, nil, []string{"unavailable"}},
		"once the mail server accepts it":            {added("alice"), &world{refuse: 2}, []string{"alice@example.com"}, []string{""}},
		"once a mail server is reached again":        {added("alice"), &world{refuse: 2, slow: 10 * time.Second}, []string{"alice@example.com"}, []string{""}},
		"nobody, while no mail server is reached":    {added("alice"), &world{refuse: 99, slow: 10 * time.Second}, nil, []string{"not accepted"}},
		"nobody, while the mail server does not":     {added("alice"), &world{refuse: 99}, nil, []string{"not accepted"}},
		"perhaps, by a server that says nothing":     {added("alice"), &world{hang: true}, nil, []string{""}},
		"nobody of what is no change":                {audit.Event{Type: audit.SignedIn, UserID: id("alice")}, &world{}, nil, nil},
		"nobody of a name":                           {audit.Event{Type: audit.FactorRenamed, UserID: id("alice")}, &world{}, nil, nil},
		"nobody of a code from the app":              {audit.Event{Type: audit.FactorAccepted, Method: mfa.TOTP, UserID: id("alice")}, &world{}, nil, nil},
		"of a recovery code":                         {audit.Event{Type: audit.FactorAccepted, Method: mfa.RecoveryCode, UserID: id("alice")}, &world{}, []string{"alice@example.com"}, []string{""}},
		"nobody of codes that go with a lost factor": {audit.Event{Type: audit.FactorRemoved, Method: mfa.RecoveryCode, UserID: id("alice")}, &world{}, nil, nil},
		"of a sign-in that was not his":              {audit.Event{Type: audit.SuspiciousReported, UserID: id("alice")}, &world{}, []string{"alice@example.com"}, []string{""}},
		"nobody of what he answered on his phone":    {audit.Event{Type: audit.SuspiciousReported, Method: mfa.Push, UserID: id("alice")}, &world{}, nil, nil},
		"nobody of what strangers do":                {audit.Event{Type: audit.FactorRegistered}, &world{}, nil, nil},
	} {
		t.Run(reason, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := tc.world
				w.users = map[string]*mfa.User{"alice": person("alice"), "silent": silent, "carl": carl}
				teller, _ := start(t, w)
				teller.Audit(tc.event)
				time.Sleep(time.Hour)
				synctest.Wait()
				var to []string
				for _, m := range w.mails {
					to = append(to, m.To)
				}
				if got := w.told(); !slices.Equal(to, tc.to) || !slices.Equal(got, tc.told) {
					t.Errorf("mails to %q, the log says %q; want %q and %q", to, got, tc.to, tc.told)
				}
			})
		})
	}
}

func TestStoppedMessagesStopTheseToo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &world{users: map[string]*mfa.User{"alice": person("alice")}}
		teller, _ := start(t, w)
		if err := teller.Messages.Stop(t.Context(), true); err != nil {
			t.Fatal(err)
		}
		teller.Audit(added("alice"))
		time.Sleep(time.Minute)
		synctest.Wait()
		if got := w.told(); len(w.texts()) != 0 || !slices.Equal(got, []string{"stopped"}) {
			t.Errorf("%q, the log says %q", w.texts(), got)
		}
	})
}

// TestWhatWaitsAtTheEndIsSent ends the teller while a mail waits for more changes, and another for a server.
func TestWhatWaitsAtTheEndIsSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &world{users: map[string]*mfa.User{"alice": person("alice"), "bob": person("bob")}, refuse: 1}
		teller, stop := start(t, w)
		teller.Audit(added("alice"))
		time.Sleep(gather + time.Second) // refused, and waits for the next try
		teller.Audit(added("bob"))
		began := time.Now()
		stop()
		if took := time.Since(began); took > 0 {
			t.Errorf("the end took %v", took)
		}
		teller.Audit(added("bob"))
		if got := w.told(); len(w.texts()) != 1 || !slices.Equal(slices.Sorted(slices.Values(got)), []string{"", "not accepted", "shutting down"}) {
			t.Errorf("%q, the log says %q", w.texts(), got)
		}
	})
}

// TestTheEndWaitsForNoMailServerThatHangs ends the teller while a mail is under way.
func TestTheEndWaitsForNoMailServerThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &world{users: map[string]*mfa.User{"alice": person("alice")}, hang: true}
		teller, stop := start(t, w)
		teller.Audit(added("alice"))
		time.Sleep(gather + time.Second)
		began := time.Now()
		stop()
		if took := time.Since(began); took > sender.Patience {
			t.Errorf("the end took %v", took)
		}
		if got := w.told(); !slices.Equal(got, []string{""}) {
			t.Errorf("the log says %q", got)
		}
		time.Sleep(time.Minute) // what is under way ends by its time-out
	})
}

// TestAMailServerThatHangsHoldsUpNobody tells many people at once: who does something never waits, and memory doesn't grow.
func TestAMailServerThatHangsHoldsUpNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &world{users: map[string]*mfa.User{}, hang: true}
		for n := range atOnce + 10 {
			w.users[fmt.Sprint("user", n)] = person(fmt.Sprint("user", n))
		}
		teller, _ := start(t, w)
		began := time.Now()
		for n := range atOnce + 10 {
			teller.Audit(added(fmt.Sprint("user", n)))
		}
		if took := time.Since(began); took > 0 {
			t.Errorf("telling took %v", took)
		}
		if got := w.told(); !slices.Equal(got, slices.Repeat([]string{"busy"}, 10)) {
			t.Errorf("the log says %q", got)
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		if teller.open != 0 || len(teller.waiting) != 0 || len(w.told()) != atOnce+10 {
			t.Errorf("%d open, %d wait, %d events", teller.open, len(teller.waiting), len(w.told()))
		}
	})
}

// TestWhatAChangeSays holds what the mail is made of against the event.
func TestWhatAChangeSays(t *testing.T) {
	at, address := time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC), netip.MustParseAddr("192.0.2.7")
	e := audit.Event{Type: audit.AppPasswordMade, UserID: id("alice"), Application: "mail", Browser: "Firefox 128, Linux", Address: address, By: "admin"}
	if got, ok := changeOf(e, at); !ok || got != (Change{Kind: AppPasswordMade, Application: "mail", At: at, Admin: true, Browser: "Firefox 128, Linux", Address: address}) {
		t.Errorf("%+v, %v", got, ok)
	}
}

var errBroken = errors.New("broken")

// TestATransientFaultIsNoRefusal says which errors a pause may help with.
func TestATransientFaultIsNoRefusal(t *testing.T) {
	for reason, tc := range map[string]struct {
		err   error
		tries int
	}{
		"nothing wrong":      {nil, 1},
		"a fault":            {errBroken, 3},
		"a limit":            {&throttle.WaitError{Scope: "messages to the user"}, 1},
		"stopped":            {throttle.ErrStopped, 1},
		"nobody of that id":  {directory.ErrUnknown, 1},
		"no mail server":     {sender.ErrFailed, 3},
		"too many under way": {sender.ErrBusy, 3},
	} {
		t.Run(reason, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				tries := 0
				err := NewTeller().persist(func(context.Context) error { tries++; return tc.err })
				if !errors.Is(err, tc.err) || tries != tc.tries {
					t.Errorf("%v after %d tries, want %d", err, tries, tc.tries)
				}
			})
		})
	}
}
