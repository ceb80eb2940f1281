package caddymodule

import (
	"fmt"
	"io"
	"net/http"
	"net/url"

	"github.com/spf13/cobra"

	"github.com/caddy-mfa/caddy-mfa/internal/throttle"
)

func messagesCommand() *cobra.Command {
	s := &server{}
	c := group("messages", "Codes that the running server sends")
	s.flags(c)
	show := func(c *cobra.Command) error {
		var u throttle.MessageUse
		if err := s.call(http.MethodGet, "/mfa/messages", nil, &u); err != nil {
			return err
		}
		return s.print(c, u, func(w io.Writer) {
			state := "Codes are sent."
			if u.Stopped {
				state = "Codes are not sent: `mfa messages start` sends them again."
			}
			fmt.Fprintf(w, "%s\n%d of %d were sent", state, u.Sent, u.Total)
			if !u.Since.IsZero() {
				fmt.Fprintf(w, " since %s", u.Since.Local().Format("2006-01-02 15:04"))
			}
			fmt.Fprintln(w, ".")
		})
	}
	now := &cobra.Command{Use: "show", Short: "Say whether codes are sent, and how many were in the day that is running", Args: cobra.NoArgs}
	now.RunE = run(func(c *cobra.Command, _ []string) error { return show(c) })
	c.AddCommand(now)
	for _, do := range []struct{ use, short string }{
		{"stop", "Send no codes any more, on any machine, until `start`"}, {"start", "Send codes again"},
	} {
		sub := &cobra.Command{Use: do.use, Short: do.short, Args: cobra.NoArgs}
		sub.RunE = run(func(c *cobra.Command, _ []string) error {
			var done any
			if err := s.call(http.MethodPost, "/mfa/messages/"+do.use, url.Values{}, &done); err != nil {
				return err
			}
			return show(c)
		})
		c.AddCommand(sub)
	}
	return c
}
