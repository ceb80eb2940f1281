// Package demo is a small application as they were written twenty years ago: it believes whatever header names its user, and
// will never learn about second factors.
package demo

import (
	"html/template"
	"net/http"
	"slices"
	"sync"
	"time"
)

// App is a notice board. It keeps its notes in memory.
type App struct {
	mu    sync.Mutex
	notes []note
}

type note struct {
	User, Text string
	At         time.Time
}

// The board keeps so many notes, of at most so many bytes.
const (
	maxNotes = 50
	maxNote  = 500
)

var board = template.Must(template.New("board").Parse(`<!DOCTYPE HTML PUBLIC "-//W3C//DTD HTML 4.01 Transitional//EN">
<html><head><title>Notice board</title><meta charset="utf-8"><meta name="viewport" content="width=device-width"></head>
<body bgcolor="#ffffcc" text="#000000" link="#0000cc">
<h1>Notice board</h1>
<p>You are <b>{{.User}}</b>{{with .Name}} ({{.}}){{end}}{{with .Groups}}, member of {{.}}{{end}}.
This application knows that because a header told it so.</p>
<form method="post" action="/">
<input type="text" name="text" size="40" maxlength="500" title="Notice"> <input type="submit" value="Put it up">
</form>
<table border="1" cellpadding="6">
{{range .Notes}}<tr><td>{{.At.Format "15:04:05"}}</td><td><b>{{.User}}</b></td><td>{{.Text}}</td></tr>
{{else}}<tr><td>There are no notices yet.</td></tr>{{end}}
</table>
<p><a href="/_mfa/account">Your account</a> | <a href="/_mfa/signout">Sign out</a></p>
</body></html>
`))

// ServeHTTP shows the board and takes notes.
func (a *App) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	user := r.Header.Get("Remote-User")
	if user == "" {
		http.Error(w, "No header Remote-User: who are you?", http.StatusForbidden)
		return
	}
	if r.Method == http.MethodPost {
		if text := r.PostFormValue("text"); text != "" && len(text) <= maxNote {
			a.mu.Lock()
			a.notes = append(a.notes[max(0, len(a.notes)-maxNotes+1):], note{user, text, time.Now()})
			a.mu.Unlock()
		}
		http.Redirect(w, r, "/", http.StatusSeeOther)
		return
	}
	a.mu.Lock()
	notes := slices.Clone(a.notes)
	a.mu.Unlock()
	slices.Reverse(notes)
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	board.Execute(w, struct { // an error is a client that is gone
		User, Name, Groups string
		Notes              []note
	}{user, r.Header.Get("Remote-Name"), r.Header.Get("Remote-Groups"), notes})
}
