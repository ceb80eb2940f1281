package sender

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/caddy-mfa/caddy-mfa/internal/mfa"
)

// Command runs a program for each message. It gets the message as one line of JSON on its standard input, where no list of processes
// shows it: id, method, to, code, language, subject, text. That it has accepted the message it says with the exit status 0; with another
// one it says that it has not.
type Command struct {
	Path string
	Args []string // as they are: nothing is put into them
}

// Send runs the program. One that is ended because it takes too long may have sent the message.
func (c *Command) Send(ctx context.Context, m *mfa.Message) error {
	input, err := json.Marshal(map[string]string{
		"id": m.ID, "method": string(m.Method), "to": m.To, "code": m.Code, "language": m.Language, "subject": m.Subject, "text": m.Text,
	})
	if err != nil {
		return fmt.Errorf("%w: %w", mfa.ErrNotAccepted, err)
	}
	run := exec.CommandContext(ctx, c.Path, c.Args...)
	run.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + os.Getenv("HOME"), "LANG=C.UTF-8"} // not our secrets
	run.Stdin = bytes.NewReader(append(input, '\n'))
	var said saying
	run.Stdout, run.Stderr = &said, &said
	run.WaitDelay = time.Second // also when it has left a child that holds its output
	if err := run.Start(); err != nil {
		return fmt.Errorf("%w: starting command: %w", mfa.ErrNotAccepted, err)
	}
	err = run.Wait()
	var exit *exec.ExitError
	switch {
	case err == nil, errors.Is(err, exec.ErrWaitDelay):
		return nil
	case ctx.Err() != nil:
		return fmt.Errorf("the command was ended: %w", ctx.Err())
	case errors.As(err, &exit) && exit.Exited():
		return fmt.Errorf("%w: the command ends with status %d: %s", mfa.ErrNotAccepted, exit.ExitCode(), said.without(m))
	}
	return fmt.Errorf("running command: %w", err)
}

// saying keeps the beginning of what a program says.
type saying struct{ bytes.Buffer }

func (t *saying) Write(p []byte) (int, error) {
	if room := 300 - t.Len(); room > 0 {
		t.Buffer.Write(p[:min(len(p), room)])
	}
	return len(p), nil
}

// without takes out what must not stand in a log.
func (t *saying) without(m *mfa.Message) string {
	secrets := []string{m.To, "••••"}
	if m.Code != "" { // nothing stands everywhere
		secrets = append(secrets, m.Code, "••••••")
	}
	return strings.TrimSpace(strings.NewReplacer(secrets...).Replace(strings.ToValidUTF8(t.String(), "")))
}

var _ mfa.Sender = (*Command)(nil)
