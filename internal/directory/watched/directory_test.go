package watched_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddy-mfa/caddy-mfa/internal/directory"
	"github.com/caddy-mfa/caddy-mfa/internal/directory/file"
	"github.com/caddy-mfa/caddy-mfa/internal/directory/watched"
	"github.com/caddy-mfa/caddy-mfa/internal/mfa"
	"github.com/caddy-mfa/caddy-mfa/internal/password"
)

// Digests of "correct horse", the cheapest of each kind: those of bcrypt were made by libxcrypt.
const (
	cheap   = "$2b$04$abcdefghijklmnopqrstuujydOTSfIH/d5oUHpsygqV5X9xJLQc6e"
	cheapY  = "$2y$04$abcdefghijklmnopqrstuujydOTSfIH/d5oUHpsygqV5X9xJLQc6e"
	cheaper = "$2b$05$abcdefghijklmnopqrstuuHNbAKRhpaujgo33bRWs.NLUTJO3lOy2"
	longest = "$2b$04$abcdefghijklmnopqrstuubzadhGtS2zEF.gu0yd0opP6cVzb.e0i" // of 72 times x
	other   = "$2b$04$0123456789abcdefghijkuhA04ioPU96b9ruCg2V0LgTVKEz8/.WS" // of "battery staple"
	least   = "$argon2id$v=19$m=19456,t=2,p=1$TYSgT/BQ2oh3pbHH1O4CyA$yEv2H4BaMHdZQsQduolOIzh+xedW7A7g2Lf6AWTsO4U"
)

// costs notes what every hash of a pool cost, in order.
func costs(p *password.Pool) func() []password.Cost {
	var all []password.Cost
	p.Observe(func(c password.Cost, _ time.Duration) { all = append(all, c) })
	return func() []password.Cost {
		seen := all
		all = nil
		return seen
	}
}

func loaded(t testing.TB, text string) (*watched.Directory, *password.Pool) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "users.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	pool := password.NewPool(2, -1, 0)
	d := file.New("staff", path, pool, nil)
	if err := d.Load(); err != nil {
		t.Fatal(err)
	}
	return d, pool
}

const population = `users:
  alice:
    id: 7f1c
    password: ` + cheap + `
  bob:
    password: ` + cheaper + `
  Carol:
    password: ` + cheapY + `
    disabled: true
  dave:
    password: ` + longest + `
`

func TestLookingUp(t *testing.T) {
	d, _ := loaded(t, population)
	ctx := t.Context()
	if d.Name() != "staff" || !d.Healthy() || d.LastError() != nil {
		t.Errorf("%s, healthy: %v, %v", d.Name(), d.Healthy(), d.LastError())
	}
	alice, err := d.ByName(ctx, "alice")
	if err != nil || alice.ID != (mfa.UserID{Directory: "staff", ID: "7f1c"}) {
		t.Errorf("%+v, %v", alice, err)
	}
	if u, err := d.ByID(ctx, "7f1c"); err != nil || u != alice {
		t.Errorf("%+v, %v", u, err)
	}
	if u, err := d.ByName(ctx, "carol"); err != nil || u.Name != "Carol" || !u.Disabled {
		t.Errorf("%+v, %v", u, err)
	}
	if u, err := d.ByID(ctx, "carol"); err != nil || !u.Disabled {
		t.Errorf("%+v, %v", u, err)
	}
	for _, name := range []string{"", "eve", "7f1c", "Carol"} {
		if u, err := d.ByName(ctx, name); u != nil || err != directory.ErrUnknown {
			t.Errorf("by name %q: %+v, %v", name, u, err)
		}
	}
	for _, id := range []string{"", "eve", "alice"} {
		if u, err := d.ByID(ctx, id); u != nil || err != directory.ErrUnknown {
			t.Errorf("by id %q: %+v, %v", id, u, err)
		}
	}
	users, err := d.Users(ctx)
	var names []string
	for _, u := range users {
		names = append(names, u.Canonical)
	}
	if err != nil || !slices.Equal(names, []string{"alice", "bob", "carol", "dave"}) {
		t.Errorf("%q, %v", names, err)
	}
	users[0] = nil
	if again, _ := d.Users(ctx); again[0] != alice {
		t.Error("who lists users changes the directory")
	}
	if len(d.Warnings()) != 1 {
		t.Errorf("the warnings are %v", d.Warnings())
	}
}

func TestNothingIsKnownBeforeTheFileWasRead(t *testing.T) {
	d := file.New("file", filepath.Join(t.TempDir(), "users.yaml"), password.NewPool(1, 0, 0), nil)
	ctx := t.Context()
	_, byName := d.ByName(ctx, "alice")
	_, byID := d.ByID(ctx, "alice")
	_, users := d.Users(ctx)
	_, authenticate := d.Authenticate(ctx, "alice", "correct horse")
	for i, err := range []error{byName, byID, users, authenticate} {
		if !errors.Is(err, directory.ErrUnavailable) {
			t.Errorf("%d: %v", i, err)
		}
	}
	if d.Healthy() || d.LastError() == nil {
		t.Error("it is healthy")
	}
}

func TestAuthenticate(t *testing.T) {
	d, _ := loaded(t, population)
	long := strings.Repeat("x", 72)
	for reason, tc := range map[string]struct {
		name, password string
		want           error
	}{
		"right":                         {"alice", "correct horse", nil},
		"wrong":                         {"alice", "battery staple", directory.ErrPassword},
		"empty":                         {"alice", "", directory.ErrPassword},
		"of another case":               {"alice", "Correct horse", directory.ErrPassword},
		"disabled, right":               {"carol", "correct horse", directory.ErrPassword},
		"disabled, wrong":               {"carol", "battery staple", directory.ErrPassword},
		"unknown, right for somebody":   {"eve", "correct horse", directory.ErrPassword},
		"unknown, empty":                {"eve", "", directory.ErrPassword},
		"no name":                       {"", "correct horse", directory.ErrPassword},
		"bcrypt, 72 bytes":              {"dave", long, nil},
		"bcrypt, 72 right bytes and 1":  {"dave", long + "x", directory.ErrPassword},
		"bcrypt, more bytes than allow": {"dave", strings.Repeat("x", password.MaxLength+1), directory.ErrPassword},
	} {
		t.Run(reason, func(t *testing.T) {
			u, err := d.Authenticate(t.Context(), tc.name, tc.password)
			if err != tc.want || (u != nil) != (err == nil) || u != nil && u.Canonical != tc.name {
				t.Fatalf("%+v, %v", u, err)
			}
		})
	}
}

func TestEverybodyCostsOneHash(t *testing.T) {
	d, pool := loaded(t, population)
	seen := costs(pool)
	s := d.Current()
	for _, name := range []string{"alice", "bob", "carol", "dave", "eve", "mallory", "", "Alice"} {
		want := s.StandIn(watched.ProcessKey(), name).Cost()
		if e := s.ByName(name); e != nil {
			want = e.Digest.Cost()
		}
		for _, pass := range []string{"correct horse", "wrong", "", strings.Repeat("x", 73), strings.Repeat("x", password.MaxLength), "a\x00b"} {
			d.Authenticate(t.Context(), name, pass)
			if got := seen(); !slices.Equal(got, []password.Cost{want}) {
				t.Errorf("%q with %.10q costs %v, want %v", name, pass, got, want)
			}
		}
		d.Authenticate(t.Context(), name, strings.Repeat("x", password.MaxLength+1))
		if got := seen(); got != nil {
			t.Errorf("%q with a password that is too long costs %v", name, got)
		}
	}
}

func TestUnknownNameCostsAHashWhereNobodyIsKnown(t *testing.T) {
	d, pool := loaded(t, "users: {}\n")
	seen := costs(pool)
	if _, err := d.Authenticate(t.Context(), "alice", "correct horse"); err != directory.ErrPassword {
		t.Fatal(err)
	}
	if got := seen(); !slices.Equal(got, []password.Cost{password.DefaultCost}) {
		t.Errorf("it costs %v", got)
	}
}

// some is so many users of one digest.
type some struct {
	digest string
	count  int
}

func crowd(groups ...some) string {
	var b strings.Builder
	b.WriteString("users:\n")
	for g, group := range groups {
		for i := range group.count {
			fmt.Fprintf(&b, "  u%d-%d: {password: '%s'}\n", g, i, group.digest)
		}
	}
	return b.String()
}

// inForce is what comes into force of a file.
func inForce(t *testing.T, text string) *watched.Snapshot {
	t.Helper()
	d, _ := loaded(t, text)
	return d.Current()
}

func TestUnknownNamesLookLikeThePopulation(t *testing.T) {
	s := inForce(t, crowd(some{cheap, 70}, some{cheaper, 29}, some{least, 1}))
	key := [32]byte{1}
	const names = 20_000
	count := map[password.Cost]int{}
	for i := range names {
		count[s.StandIn(key, fmt.Sprint("nobody", i)).Cost()]++
	}
	for cost, users := range s.Classes() {
		want := float64(users) / 100
		if got := float64(count[cost]) / names; got < want-0.01 || got > want+0.01 {
			t.Errorf("%v stands in for %.3f of the names, and is of %.2f of the users", cost, got, want)
		}
	}
	if len(count) != 3 {
		t.Errorf("%v", count)
	}
}

func TestUnknownNameKeepsItsCost(t *testing.T) {
	before := inForce(t, crowd(some{cheap, 70}, some{cheaper, 30}))
	after := inForce(t, crowd(some{cheaper, 31}, some{cheap, 70}))
	key, otherKey := [32]byte{1}, [32]byte{2}
	const names = 10_000
	moved, differ := 0, 0
	for i := range names {
		name := fmt.Sprint("nobody", i)
		cost := before.StandIn(key, name).Cost()
		if before.StandIn(key, name).Cost() != cost {
			t.Fatal("it changes from try to try")
		}
		if after.StandIn(key, name).Cost() != cost {
			moved++
		}
		if before.StandIn(otherKey, name).Cost() != cost {
			differ++
		}
	}
	if moved > names/100 {
		t.Errorf("one more user and another order change the cost of %d of %d names", moved, names)
	}
	if differ < names/4 {
		t.Errorf("the key changes the cost of only %d of %d names: others can compute it", differ, names)
	}
}

func TestMarkChangesWithThePasswordOnly(t *testing.T) {
	read := func(password, rest string) *mfa.User {
		s := inForce(t, "users:\n  alice: {password: '"+password+"'"+rest+"}\n")
		return s.ByName("alice").User
	}
	first := read(cheap, "")
	for _, rest := range []string{"", ", email: alice@example.com", ", groups: [staff]", ", disabled: true", ", id: alice"} {
		if u := read(cheap, rest); u.Mark != first.Mark {
			t.Errorf("it changes with %q", rest)
		}
	}
	for _, password := range []string{other, cheaper, least} {
		if u := read(password, ""); u.Mark == first.Mark {
			t.Errorf("it doesn't change with %s", password)
		}
	}
	if u := read(cheap, ", id: x"); u.Mark == first.Mark {
		t.Error("two people with one digest have one mark")
	}
	d, err := password.Parse(cheap)
	if err != nil {
		t.Fatal(err)
	}
	if watched.Mark(mfa.UserID{Directory: "a", ID: "bc"}, d) == watched.Mark(mfa.UserID{Directory: "ab", ID: "c"}, d) {
		t.Error("it doesn't tell where the directory ends and the id begins")
	}
	for _, secret := range []string{cheap[7:29], cheap[29:]} {
		if strings.Contains(first.Mark, secret) {
			t.Error("it holds a part of the digest")
		}
	}
	if len(first.Mark) != 22 {
		t.Errorf("it is %q", first.Mark)
	}
}

func TestFullPoolTellsNothing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "users.yaml")
	if err := os.WriteFile(path, []byte(population), 0o600); err != nil {
		t.Fatal(err)
	}
	d := file.New("file", path, new(password.Pool), nil)
	if err := d.Load(); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"alice", "carol", "eve"} {
		if u, err := d.Authenticate(t.Context(), name, "correct horse"); u != nil || err != directory.ErrBusy {
			t.Errorf("%s: %+v, %v", name, u, err)
		}
	}
}

func TestCancelledSignInIsNotAWrongPassword(t *testing.T) {
	d, _ := loaded(t, population)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, name := range []string{"alice", "carol", "eve"} {
		if u, err := d.Authenticate(ctx, name, "correct horse"); u != nil || err != context.Canceled {
			t.Errorf("%s: %+v, %v", name, u, err)
		}
	}
}

func TestChangeWhileThePasswordIsJudgedCounts(t *testing.T) {
	for reason, tc := range map[string]struct {
		text string
		want error
	}{
		"disabled":         {"users:\n  alice: {id: 7f1c, password: '" + cheap + "', disabled: true}\n", directory.ErrPassword},
		"removed":          {"users: {}\n", directory.ErrPassword},
		"another password": {"users:\n  alice: {id: 7f1c, password: '" + other + "'}\n", directory.ErrPassword},
		"another person":   {"users:\n  alice: {password: '" + cheap + "'}\n", directory.ErrPassword},
		"another group":    {"users:\n  alice: {id: 7f1c, password: '" + cheap + "', groups: [staff]}\n", nil},
	} {
		t.Run(reason, func(t *testing.T) {
			d, pool := loaded(t, population)
			pool.Observe(func(password.Cost, time.Duration) {
				if err := os.WriteFile(d.Path(), []byte(tc.text), 0o600); err != nil {
					t.Error(err)
				}
				if err := d.Load(); err != nil {
					t.Error(err)
				}
			})
			u, err := d.Authenticate(t.Context(), "alice", "correct horse")
			if err != tc.want {
				t.Fatalf("%+v, %v", u, err)
			}
			if err == nil && !slices.Equal(u.Groups, []string{"staff"}) {
				t.Errorf("it answers with what was: %+v", u)
			}
		})
	}
}

func BenchmarkByID(b *testing.B) {
	d, _ := loaded(b, population)
	b.ReportAllocs()
	for b.Loop() {
		d.ByID(b.Context(), "7f1c")
	}
}
