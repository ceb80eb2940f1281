package caddymodule

import (
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/caddy-mfa/caddy-mfa/internal/inventory"
)

func legacyCommand() *cobra.Command {
	s := &server{}
	c := group("legacy", "Legacy authentication")
	s.flags(c)
	c.AddCommand(legacyReportCommand(s))
	return c
}

func legacyReportCommand(s *server) *cobra.Command {
	c := &cobra.Command{
		Use: "report", Short: "Show who still uses legacy authentication, from where, on which application", Args: cobra.NoArgs,
		Long: `Show who still uses legacy authentication, from where, on which application: the one that was seen last first. Options narrow it,
all of them together.

A row stands for all requests that have application, class, user, client, the first folders of the path and the network in common.
BECAME says what became of them, and WITHOUT REPORT what would have become of them without report mode and emergency. A name that
no directory knows is shown as a mark, since it may be a password in the wrong field; --user finds it by the name.

A moment is so long ago (24h, 7d), a day (2027-03-01, at its beginning in UTC) or a time (2027-03-01T15:04:05Z).`,
	}
	texts := map[string]*string{}
	for _, o := range []struct{ flag, parameter, help string }{
		{"application", "application", "of this application"},
		{"class", "class", "of this class, as in basic"},
		{"user", "user", "of this user, also one whom no directory knows"},
		{"client", "client", "of this family of clients, as in git"},
		{"path", "path", "in this folder, as in /dav"},
		{"ip", "address", "from the network of this address, or from this range, as in 10.0.0.0/8"},
		{"verdict", "verdict", "of which a request was blocked, reported, allowed, or let through by app_password, service_token or exception"},
		{"exception", "exception", "of which this exception has let a request through"},
		{"since", "since", "last seen from this moment on"},
		{"until", "until", "last seen before this moment"},
	} {
		texts[o.parameter] = c.Flags().String(o.flag, "", o.help)
	}
	asCSV := c.Flags().Bool("csv", false, "print CSV, for a spreadsheet")
	exceptions := c.Flags().Bool("exceptions", false, "show the exceptions instead: how they are used, and which should be looked at")
	c.RunE = run(func(c *cobra.Command, _ []string) error {
		if *asCSV && s.json {
			return errors.New("--csv and --json don't go together")
		}
		query := url.Values{}
		for parameter, text := range texts {
			if *text != "" {
				query.Set(parameter, *text)
			}
		}
		if *exceptions && len(query) > 0 {
			return errors.New("--exceptions shows all of them; leave the other options out")
		}
		var report legacyReport
		if err := s.call(http.MethodGet, "/mfa/legacy?"+query.Encode(), nil, &report); err != nil {
			return err
		}
		switch {
		case *asCSV && *exceptions:
			return writeCSV(c.OutOrStdout(), exceptionColumns, report.Exceptions)
		case *asCSV:
			return writeCSV(c.OutOrStdout(), legacyColumns, report.Rows)
		case *exceptions:
			return s.print(c, report.Exceptions, func(w io.Writer) { printExceptions(w, report.Exceptions) })
		}
		return s.print(c, report, func(w io.Writer) {
			printLegacy(w, report.Rows)
			if len(report.Exceptions) > 0 {
				fmt.Fprintln(w, "\nExceptions:")
				printExceptions(w, report.Exceptions)
			}
		})
	})
	return c
}

func printLegacy(w io.Writer, rows []inventory.Row) {
	if len(rows) == 0 {
		fmt.Fprintln(w, "Nothing was seen.")
		return
	}
	t := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	fmt.Fprintln(t, "LAST SEEN\tFIRST SEEN\tAPPLICATION\tCLASS\tUSER\tCLIENT\tADDRESSES\tPATH\tREQUESTS\tBECAME\tWITHOUT REPORT")
	for _, r := range rows {
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%d\t%s\t%s\n", timeText(r.LastSeen), timeText(r.FirstSeen), dash(r.Application), dash(r.Class),
			dash(userOf(r)), dash(r.Client), dash(rangeText(r.Addresses)), r.Path, r.Count, dash(becameText(r)), dash(countsText(r.Would)))
	}
	t.Flush()
}

// userOf says whose a row is, and that nobody knows him where that can't be seen.
func userOf(r inventory.Row) string {
	if r.Known || r.User == "" || strings.HasPrefix(r.User, "(") {
		return r.User
	}
	return r.User + " (unknown)"
}

// becameText says what became of the requests of a row, and which exceptions covered some.
func becameText(r inventory.Row) string {
	text := countsText(r.Verdicts)
	if len(r.Exceptions) > 0 {
		text += " (" + countsText(r.Exceptions) + ")"
	}
	return text
}

// countsText is "blocked", or "blocked 5, reported 2", the most frequent first.
func countsText(counts map[string]uint64) string {
	var names []string
	for name, n := range counts {
		if n > 0 {
			names = append(names, name)
		}
	}
	slices.SortFunc(names, func(a, b string) int {
		switch {
		case counts[a] > counts[b]:
			return -1
		case counts[a] < counts[b]:
			return 1
		}
		return strings.Compare(a, b)
	})
	if len(names) > 1 {
		for i, name := range names {
			names[i] = fmt.Sprint(name, " ", counts[name])
		}
	}
	return strings.Join(names, ", ")
}

func printExceptions(w io.Writer, all []legacyException) {
	if len(all) == 0 {
		fmt.Fprintln(w, "There are no exceptions.")
		return
	}
	t := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	fmt.Fprintln(t, "APPLICATION\tEXCEPTION\tREQUESTS\tLAST USED\tENDS\tOWNER\tNOTE")
	for _, e := range all {
		fmt.Fprintf(t, "%s\t%s\t%d\t%s\t%s\t%s\t%s\n", e.Application, e.Exception, e.Count, dash(timeText(e.LastUsed)), e.Until, e.Owner, dash(notesText(e)))
	}
	t.Flush()
}

func notesText(e legacyException) string {
	texts := make([]string, len(e.Notes))
	for i, note := range e.Notes {
		texts[i] = noteTexts[note]
	}
	return strings.Join(texts, ", ")
}

// column is a column of a CSV file.
type column[T any] struct {
	name  string
	value func(*T) string
}

func verdictColumn(verdict string) column[inventory.Row] {
	return column[inventory.Row]{verdict, func(r *inventory.Row) string { return strconv.FormatUint(r.Verdicts[verdict], 10) }}
}

var legacyColumns = []column[inventory.Row]{
	{"application", func(r *inventory.Row) string { return r.Application }},
	{"class", func(r *inventory.Row) string { return r.Class }},
	{"user", func(r *inventory.Row) string { return r.User }},
	{"known", func(r *inventory.Row) string { return strconv.FormatBool(r.Known) }},
	{"client", func(r *inventory.Row) string { return r.Client }},
	{"addresses", func(r *inventory.Row) string { return rangeText(r.Addresses) }},
	{"path", func(r *inventory.Row) string { return r.Path }},
	{"first_seen", func(r *inventory.Row) string { return r.FirstSeen.UTC().Format(time.RFC3339) }},
	{"last_seen", func(r *inventory.Row) string { return r.LastSeen.UTC().Format(time.RFC3339) }},
	{"requests", func(r *inventory.Row) string { return strconv.FormatUint(r.Count, 10) }},
	verdictColumn(inventory.Blocked), verdictColumn(inventory.Reported), verdictColumn(inventory.Allowed),
	verdictColumn(inventory.AppPassword), verdictColumn(inventory.ServiceToken), verdictColumn(inventory.Exception),
	{"would_be_blocked", func(r *inventory.Row) string { return strconv.FormatUint(r.Would[inventory.Blocked], 10) }},
	{"would_be_allowed", func(r *inventory.Row) string { return strconv.FormatUint(r.Would[inventory.Allowed], 10) }},
	{"exceptions", func(r *inventory.Row) string { return countsText(r.Exceptions) }},
}

var exceptionColumns = []column[legacyException]{
	{"application", func(e *legacyException) string { return e.Application }},
	{"exception", func(e *legacyException) string { return e.Exception }},
	{"requests", func(e *legacyException) string { return strconv.FormatUint(e.Count, 10) }},
	{"last_used", func(e *legacyException) string { return moment(e.LastUsed) }},
	{"since", func(e *legacyException) string { return moment(e.Since) }},
	{"until", func(e *legacyException) string { return e.Until.String() }},
	{"owner", func(e *legacyException) string { return e.Owner }},
	{"reason", func(e *legacyException) string { return e.Reason }},
	{"note", func(e *legacyException) string { return notesText(*e) }},
}

func moment(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339)
}

// writeCSV writes CSV (RFC 4180) that a spreadsheet can open.
func writeCSV[T any](w io.Writer, columns []column[T], rows []T) error {
	out := csv.NewWriter(w)
	record := make([]string, len(columns))
	for i, c := range columns {
		record[i] = c.name
	}
	out.Write(record) // what fails is told at the end
	for n := range rows {
		for i, c := range columns {
			record[i] = cell(c.value(&rows[n]))
		}
		out.Write(record)
	}
	out.Flush()
	return out.Error()
}

// cell keeps a spreadsheet from taking a text for a formula, which could send the rest of the sheet to somebody (CWE-1236). The
// apostrophe is what spreadsheets write themselves before a text.
func cell(s string) string {
	begin := strings.TrimLeft(s, " \t\r\n\u00a0\u200b\ufeff'\"")
	if begin != "" && strings.ContainsAny(begin[:1], "=+-@|%") {
		return "'" + s
	}
	for _, wide := range []string{"＝", "＋", "－", "＠"} {
		if strings.HasPrefix(begin, wide) {
			return "'" + s
		}
	}
	if s != "" && strings.ContainsAny(s[:1], "\t\r\n") {
		return "'" + s
	}
	return s
}
