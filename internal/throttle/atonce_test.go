package throttle

import "testing"

func TestAtOnceLetsInSoManyAndNoMore(t *testing.T) {
	a := NewAtOnce(2)
	for _, want := range []bool{true, true, false, false} {
		if got := a.Enter(); got != want {
			t.Fatalf("%v, want %v", got, want)
		}
	}
	a.Leave()
	if !a.Enter() || a.Enter() {
		t.Fatal("a place that was left is one place")
	}
	if new(AtOnce).Enter() {
		t.Fatal("the zero AtOnce lets somebody in")
	}
}
