package admin

import (
	"bytes"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/caddy-mfa/caddy-mfa/internal/mfa"
)

// StateLine is a line of a file that sets the per-user setting of many users.
type StateLine struct {
	Line  int
	User  string // canonical
	State mfa.PerUserState
}

// stateHeaders are the first lines that such a file may have: Microsoft's, which we write, and a short one.
var stateHeaders = [][]string{{"username", "mfa status"}, {"user", "state"}}

const stateHeader = "Username,MFA Status"

var errHeader = errors.New("want `" + stateHeader + "`, or `user,state`")

// WriteStates writes the setting of every user as CSV, in the form of Microsoft's file for bulk updates.
func WriteStates(w io.Writer, users []Summary) error {
	var b bytes.Buffer
	b.WriteString(stateHeader + "\n")
	for _, u := range users {
		name, err := mfa.CanonicalName(u.Name)
		if err != nil {
			return err
		}
		state := string(u.PerUser)
		fmt.Fprintf(&b, "%s,%s\n", cell(name), strings.ToUpper(state[:1])+state[1:])
	}
	_, err := w.Write(b.Bytes())
	return err
}

// A spreadsheet takes a cell that begins like this for a formula, and runs it. In front of these, and of itself, an apostrophe says
// that it is text.
const formula = "=+-@'"

func cell(name string) string {
	if strings.ContainsRune(formula, rune(name[0])) {
		name = "'" + name
	}
	// encoding/csv would not quote a semicolon, which separates cells where the comma is a decimal point.
	if strings.ContainsAny(name, `,;"`) {
		name = `"` + strings.ReplaceAll(name, `"`, `""`) + `"`
	}
	return name
}

// nameIn finds the name in a cell that cell or a person has written.
func nameIn(cell string) (string, error) {
	cell = strings.TrimSpace(cell)
	if len(cell) > 1 && cell[0] == '\'' && strings.ContainsRune(formula, rune(cell[1])) {
		cell = cell[1:]
	}
	return mfa.CanonicalName(cell)
}

// ReadStates reads what WriteStates or Microsoft's template hold, for these users. The error has a line for every mistake in the file,
// and for every user who is not among them.
func ReadStates(r io.Reader, users []Summary) ([]StateLine, error) {
	text, err := io.ReadAll(r)
	if err != nil {
		return nil, fmt.Errorf("reading the file: %w", err)
	}
	text = bytes.TrimPrefix(text, []byte("\ufeff"))
	if bytes.HasPrefix(text, []byte{0xff, 0xfe}) || bytes.HasPrefix(text, []byte{0xfe, 0xff}) {
		return nil, errors.New("line 1: the file is in UTF-16; save it as CSV in UTF-8")
	}
	known := make(map[string]bool, len(users))
	for _, u := range users {
		if name, err := mfa.CanonicalName(u.Name); err == nil {
			known[name] = true
		}
	}

	records := csv.NewReader(bytes.NewReader(text))
	records.FieldsPerRecord, records.TrimLeadingSpace, records.ReuseRecord = -1, true, true
	if first, _, _ := bytes.Cut(text, []byte("\n")); bytes.ContainsRune(first, ';') && !bytes.ContainsRune(first, ',') {
		records.Comma = ';' // as spreadsheets write it where the comma is a decimal point
	}
	var (
		lines    []StateLine
		mistakes []error
		header   bool
	)
	seen := map[string]int{}
	for {
		record, err := records.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		var line int
		if wrong := (*csv.ParseError)(nil); errors.As(err, &wrong) {
			line, err = wrong.StartLine, fmt.Errorf("the quotation marks are wrong: %w", wrong.Err)
		} else {
			line, _ = records.FieldPos(0)
		}
		mistake := func(err error) { mistakes = append(mistakes, fmt.Errorf("line %d: %w", line, err)) }
		if !header {
			if header = err == nil && isHeader(record); !header {
				mistake(fmt.Errorf("the first line doesn't name the columns; %w", errHeader))
				break // whatever follows means something else
			}
			continue
		}
		if err != nil {
			mistake(err)
			continue
		}
		if !slices.ContainsFunc(record, func(field string) bool { return strings.TrimSpace(field) != "" }) {
			continue // as spreadsheets leave them at the end
		}
		if len(record) != 2 {
			mistake(fmt.Errorf("there are %d fields; want the user's name and the state", len(record)))
			continue
		}
		state, err := ParseState(record[1])
		if err != nil {
			mistake(err)
		}
		name, nameErr := nameIn(record[0])
		switch {
		case nameErr != nil:
			mistake(fmt.Errorf("%q is %w", record[0], nameErr))
		case seen[name] > 0:
			mistake(fmt.Errorf("%q stands in line %d already", name, seen[name]))
		case !known[name]:
			seen[name] = line
			mistake(fmt.Errorf("no directory knows the user %q", name))
		case err == nil:
			seen[name] = line
			lines = append(lines, StateLine{line, name, state})
		}
	}
	if !header && len(mistakes) == 0 {
		mistakes = append(mistakes, fmt.Errorf("line 1: the file is empty; %w", errHeader))
	}
	if len(mistakes) > 0 {
		return nil, errors.Join(mistakes...)
	}
	return lines, nil
}

func isHeader(record []string) bool {
	return slices.ContainsFunc(stateHeaders, func(columns []string) bool {
		return slices.EqualFunc(record, columns, func(field, column string) bool { return strings.EqualFold(strings.TrimSpace(field), column) })
	})
}
