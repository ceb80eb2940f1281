package store_test

import (
	"bytes"
	"testing"
	"time"

	"github.com/caddy-mfa/caddy-mfa/internal/store"
)

func TestRecordComesBackFromItsStoredForm(t *testing.T) {
	for name, c := range map[string]store.Change{
		"with value and expiry": {Value: []byte("value"), Expires: time.Date(2030, 1, 2, 3, 4, 5, 678e6, time.UTC)},
		"never expires":         {Value: []byte("value")},
		"empty":                 {},
		"expired before 1970":   {Expires: time.Unix(-1, 0)},
		"expires after the sun": {Expires: time.Date(5_000_000, 1, 1, 0, 0, 0, 0, time.UTC)},
	} {
		t.Run(name, func(t *testing.T) {
			c.Key = "k"
			want := c.Record(42)
			got, err := store.Unmarshal("k", want.Marshal())
			if err != nil || got.Key != "k" || got.Version != 42 || !bytes.Equal(got.Value, c.Value) || !got.Expires.Equal(want.Expires) {
				t.Errorf("got %+v, %v, want %+v", got, err, want)
			}
			if c.Expires.IsZero() != got.Expires.IsZero() || got.Value == nil {
				t.Errorf("got %+v", got)
			}
		})
	}
}

func FuzzUnmarshal(f *testing.F) {
	f.Add([]byte{})
	f.Add(make([]byte, 16))
	f.Add(bytes.Repeat([]byte{0xff}, 20))
	f.Add(store.Change{Value: []byte("value"), Expires: time.Unix(1e9, 0)}.Record(1).Marshal())
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := store.Unmarshal("k", b)
		if err != nil {
			if r.Version != 0 || r.Value != nil {
				t.Errorf("got %+v with the error %v", r, err)
			}
			return
		}
		if r.Version == 0 || r.Version == store.Any || r.Value == nil {
			t.Errorf("got %+v", r)
		}
		if again := r.Marshal(); !bytes.Equal(again, b) {
			t.Errorf("got %x back for %x", again, b)
		}
	})
}
