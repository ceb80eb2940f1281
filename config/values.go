package config

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Duration is a length of time. Its text is a sequence of numbers with a unit: d (24 hours), h, m, s, ms; or 0.
type Duration time.Duration

// ParseDuration reads a Duration: 14d, 1h30m, 45s, 0.
func ParseDuration(s string) (Duration, error) {
	rest, days := s, time.Duration(0)
	if before, after, found := strings.Cut(s, "d"); found {
		n, err := strconv.ParseUint(before, 10, 16)
		if err != nil {
			return 0, fmt.Errorf("%q is not a duration; write for example 14d, 1h30m or 45s", s)
		}
		days, rest = time.Duration(n)*24*time.Hour, after
		if rest == "" {
			return Duration(days), nil
		}
	}
	d, err := time.ParseDuration(rest)
	if err != nil || d < 0 || days+d < 0 {
		return 0, fmt.Errorf("%q is not a duration; write for example 14d, 1h30m or 45s", s)
	}
	return Duration(days + d), nil
}

// String writes what ParseDuration reads.
func (d Duration) String() string {
	const day = 24 * time.Hour
	days, rest := time.Duration(d)/day, time.Duration(d)%day
	switch {
	case d == 0:
		return "0"
	case days == 0:
		return shorten(rest)
	case rest == 0:
		return fmt.Sprintf("%dd", days)
	}
	return fmt.Sprintf("%dd%s", days, shorten(rest))
}

// shorten leaves out the zero minutes and seconds that time.Duration writes: 1h, not 1h0m0s.
func shorten(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = s[:len(s)-2]
	}
	if strings.HasSuffix(s, "h0m") {
		s = s[:len(s)-2]
	}
	return s
}

// MarshalText makes the duration a string in JSON.
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText reads what MarshalText wrote.
func (d *Duration) UnmarshalText(text []byte) (err error) {
	*d, err = ParseDuration(string(text))
	return err
}

// Date is a day, in UTC.
type Date struct{ time.Time }

// ParseDate reads a day, written as 2027-03-01.
func ParseDate(s string) (Date, error) {
	t, err := time.Parse(time.DateOnly, s)
	if err != nil {
		return Date{}, fmt.Errorf("%q is not a day; write it as 2027-03-01", s)
	}
	return Date{t}, nil
}

// String writes what ParseDate reads.
func (d Date) String() string { return d.Format(time.DateOnly) }

// MarshalJSON writes the day as a string.
func (d Date) MarshalJSON() ([]byte, error) { return json.Marshal(d.String()) }

// UnmarshalJSON reads what MarshalJSON wrote.
func (d *Date) UnmarshalJSON(data []byte) error {
	var s string
	if err := json.Unmarshal(data, &s); err != nil {
		return err
	}
	var err error
	*d, err = ParseDate(s)
	return err
}
