package directory

import (
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/caddy-mfa/caddy-mfa/internal/mfa"
)

// shelf is a directory in memory. Everybody's password is the name of the shelf.
type shelf struct {
	name   string
	people []string // canonical names; the ids are the same
	fault  error    // of every answer, if it isn't nil
	asked  []string // names that passwords were judged for
}

func (s *shelf) Name() string { return s.name }

func (s *shelf) ByName(_ context.Context, canonical string) (*mfa.User, error) {
	if s.fault != nil {
		return nil, s.fault
	}
	if !slices.Contains(s.people, canonical) {
		return nil, ErrUnknown
	}
	return &mfa.User{ID: mfa.UserID{Directory: s.name, ID: canonical}, Name: canonical, Canonical: canonical}, nil
}

func (s *shelf) ByID(ctx context.Context, id string) (*mfa.User, error) { return s.ByName(ctx, id) }

func (s *shelf) Authenticate(ctx context.Context, canonical, password string) (*mfa.User, error) {
	s.asked = append(s.asked, canonical)
	u, err := s.ByName(ctx, canonical)
	if errors.Is(err, ErrUnknown) || err == nil && password != s.name {
		return nil, ErrPassword
	}
	return u, err
}

func (s *shelf) Users(ctx context.Context) ([]*mfa.User, error) {
	var all []*mfa.User
	for _, name := range s.people {
		u, err := s.ByName(ctx, name)
		if err != nil {
			return nil, err
		}
		all = append(all, u)
	}
	return all, s.fault
}

func two() (*shelf, *shelf, Directories) {
	first := &shelf{name: "first", people: []string{"alice", "bob"}}
	second := &shelf{name: "second", people: []string{"bob", "carol"}}
	return first, second, Directories{first, second}
}

func TestFirstDirectoryThatKnowsANameDecides(t *testing.T) {
	_, _, ds := two()
	for name, want := range map[string]string{"alice": "first", "bob": "first", "carol": "second"} {
		u, err := ds.ByName(t.Context(), name)
		if err != nil || u.ID.Directory != want {
			t.Errorf("%s: %+v, %v", name, u, err)
		}
		u, err = ds.Authenticate(t.Context(), name, want)
		if err != nil || u.ID.Directory != want {
			t.Errorf("%s signs in as %+v, %v", name, u, err)
		}
	}
	if u, err := ds.ByName(t.Context(), "eve"); u != nil || err != ErrUnknown {
		t.Errorf("%+v, %v", u, err)
	}
}

func TestPasswordOfALaterDirectoryIsWrong(t *testing.T) {
	_, second, ds := two()
	if u, err := ds.Authenticate(t.Context(), "bob", "second"); u != nil || err != ErrPassword {
		t.Errorf("%+v, %v", u, err)
	}
	if len(second.asked) != 0 {
		t.Errorf("the second was asked about %q", second.asked)
	}
}

func TestDirectoryThatIsDownIsNoReasonToAskTheNext(t *testing.T) {
	first, second, ds := two()
	first.fault = ErrUnavailable
	for _, name := range []string{"alice", "bob", "carol", "eve"} {
		if u, err := ds.ByName(t.Context(), name); u != nil || !errors.Is(err, ErrUnavailable) {
			t.Errorf("%s: %+v, %v", name, u, err)
		}
		if u, err := ds.Authenticate(t.Context(), name, "second"); u != nil || !errors.Is(err, ErrUnavailable) {
			t.Errorf("%s signs in: %+v, %v", name, u, err)
		}
	}
	if len(second.asked) != 0 {
		t.Errorf("the second was asked about %q", second.asked)
	}
	if users, err := ds.Users(t.Context()); users != nil || !errors.Is(err, ErrUnavailable) {
		t.Errorf("%v, %v", users, err)
	}
}

func TestLaterDirectoryThatIsDownHidesNobodyBefore(t *testing.T) {
	_, second, ds := two()
	second.fault = ErrUnavailable
	if u, err := ds.Authenticate(t.Context(), "alice", "first"); err != nil || u.Canonical != "alice" {
		t.Errorf("%+v, %v", u, err)
	}
	for _, name := range []string{"carol", "eve"} {
		if u, err := ds.Authenticate(t.Context(), name, "second"); u != nil || !errors.Is(err, ErrUnavailable) {
			t.Errorf("%s: %+v, %v", name, u, err)
		}
	}
	if users, err := ds.Users(t.Context()); users != nil || !errors.Is(err, ErrUnavailable) {
		t.Errorf("a part is taken for everybody: %v, %v", users, err)
	}
}

func TestNameThatNobodyKnowsIsJudgedAllTheSame(t *testing.T) {
	first, second, ds := two()
	if u, err := ds.Authenticate(t.Context(), "eve", "first"); u != nil || err != ErrPassword {
		t.Errorf("%+v, %v", u, err)
	}
	if !slices.Equal(first.asked, []string{"eve"}) || len(second.asked) != 0 {
		t.Errorf("asked were %q and %q", first.asked, second.asked)
	}
}

func TestIDBelongsToItsDirectory(t *testing.T) {
	_, _, ds := two()
	ctx := t.Context()
	if u, err := ds.ByID(ctx, mfa.UserID{Directory: "second", ID: "bob"}); err != nil || u.ID.Directory != "second" {
		t.Errorf("%+v, %v", u, err)
	}
	for _, id := range []mfa.UserID{
		{Directory: "second", ID: "alice"}, {Directory: "first", ID: "carol"}, {Directory: "third", ID: "alice"},
		{Directory: "First", ID: "alice"}, {ID: "alice"}, {Directory: "first"}, {},
	} {
		if u, err := ds.ByID(ctx, id); u != nil || !errors.Is(err, ErrUnknown) {
			t.Errorf("%v: %+v, %v", id, u, err)
		}
	}
}

func TestIDOfADirectoryThatIsDownIsNotUnknown(t *testing.T) {
	first, _, ds := two()
	first.fault = ErrUnavailable
	if _, err := ds.ByID(t.Context(), mfa.UserID{Directory: "first", ID: "alice"}); !errors.Is(err, ErrUnavailable) || errors.Is(err, ErrUnknown) {
		t.Error(err)
	}
	if _, err := ds.ByID(t.Context(), mfa.UserID{Directory: "second", ID: "carol"}); err != nil {
		t.Error(err)
	}
}

func TestUsersLeavesOutWhomAnEarlierDirectoryHides(t *testing.T) {
	_, _, ds := two()
	users, err := ds.Users(t.Context())
	var got []string
	for _, u := range users {
		got = append(got, u.ID.String())
	}
	if err != nil || !slices.Equal(got, []string{"first/alice", "first/bob", "second/carol"}) {
		t.Errorf("%q, %v", got, err)
	}
}

func TestFaultsAreHandedOn(t *testing.T) {
	first, _, ds := two()
	for _, fault := range []error{ErrBusy, context.Canceled, errors.New("disk on fire")} {
		first.fault = fault
		if u, err := ds.Authenticate(t.Context(), "carol", "second"); u != nil || err != fault {
			t.Errorf("%+v, %v", u, err)
		}
	}
}

func TestNoDirectoriesAuthenticateNobody(t *testing.T) {
	var ds Directories
	ctx := t.Context()
	if u, err := ds.Authenticate(ctx, "alice", "first"); u != nil || err != ErrUnavailable {
		t.Errorf("%+v, %v", u, err)
	}
	if u, err := ds.ByName(ctx, "alice"); u != nil || err != ErrUnknown {
		t.Errorf("%+v, %v", u, err)
	}
	if u, err := ds.ByID(ctx, mfa.UserID{Directory: "first", ID: "alice"}); u != nil || !errors.Is(err, ErrUnknown) {
		t.Errorf("%+v, %v", u, err)
	}
	if users, err := ds.Users(ctx); len(users) != 0 || err != nil {
		t.Errorf("%v, %v", users, err)
	}
}

func TestNobodyInADirectoryIsAService(t *testing.T) {
	careless := &shelf{name: "careless", people: []string{"service:backup", "alice"}}
	ds := Directories{careless}
	if u, err := ds.ByName(t.Context(), "service:backup"); u != nil || err != ErrUnknown {
		t.Errorf("%+v, %v", u, err)
	}
	if u, err := ds.Authenticate(t.Context(), "service:backup", "careless"); u != nil || err != ErrPassword {
		t.Errorf("signed in as %+v, %v", u, err)
	}
	if !slices.Equal(careless.asked, []string{"service:backup"}) {
		t.Error("such a name doesn't cost what another does")
	}
	if all, err := ds.Users(t.Context()); err != nil || len(all) != 1 {
		t.Errorf("%v, %v", all, err)
	}
}
