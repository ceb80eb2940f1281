package caddymodule

import "testing"

func TestTheConfigurationInForceIsTheNewestThatHasNotStopped(t *testing.T) {
	var c activeApp
	first, second, third := new(App), new(App), new(App)
	want := func(what string, app *App) {
		t.Helper()
		if c.get() != app {
			t.Errorf("%s: another configuration is in force", what)
		}
	}
	want("before any has started", nil)
	c.set(first)
	c.set(second)
	want("a reload that goes on", second)
	c.unset(second)
	want("a reload that has failed half-way", first)
	c.set(third)
	c.unset(first)
	want("a reload that has succeeded", third)
	c.unset(second)
	want("one that has stopped already", third)
	c.unset(third)
	want("the end", nil)
}
