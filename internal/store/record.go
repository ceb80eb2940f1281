package store

import (
	"encoding/binary"
	"fmt"
	"time"
)

// HeaderLen is the length of what stands before the value in the stored form of a record.
const HeaderLen = 16

// lastExpiry is the latest moment at which a record can expire. The stored form is also read by Lua, whose numbers are exact
// up to 2⁵³.
const lastExpiry = 1<<53 - 1

// Record is what a Put leaves behind when its new version is v. The value is c's own, not a copy.
func (c Change) Record(v Version) Record {
	r := Record{Key: c.Key, Value: c.Value, Version: v}
	if r.Value == nil {
		r.Value = []byte{}
	}
	if !c.Expires.IsZero() {
		r.Expires = time.UnixMilli(expiryMillis(c.Expires)).UTC()
	}
	return r
}

// Gone reports whether the record has expired at now.
func (r Record) Gone(now time.Time) bool {
	return !r.Expires.IsZero() && !now.Before(r.Expires)
}

// Marshal returns the form in which backends store the record under its key: the version and the expiry (milliseconds since
// 1970, zero for never), 8 bytes each, big endian, then the value.
func (r Record) Marshal() []byte {
	b := make([]byte, 0, HeaderLen+len(r.Value))
	b = binary.BigEndian.AppendUint64(b, uint64(r.Version))
	var millis int64
	if !r.Expires.IsZero() {
		millis = expiryMillis(r.Expires)
	}
	b = binary.BigEndian.AppendUint64(b, uint64(millis))
	return append(b, r.Value...)
}

// Unmarshal reads what Marshal wrote. The value is a copy of that part of b.
func Unmarshal(key string, b []byte) (Record, error) {
	if len(b) < HeaderLen {
		return Record{}, fmt.Errorf("record %q is damaged: it has %d bytes, its header alone has %d", key, len(b), HeaderLen)
	}
	version := Version(binary.BigEndian.Uint64(b))
	if version == 0 || version == Any {
		return Record{}, fmt.Errorf("record %q is damaged: no record can have version %#x", key, uint64(version))
	}
	millis := binary.BigEndian.Uint64(b[8:])
	if millis > lastExpiry {
		return Record{}, fmt.Errorf("record %q is damaged: no record can expire at %#x", key, millis)
	}
	r := Record{Key: key, Version: version, Value: append(make([]byte, 0, len(b)-HeaderLen), b[HeaderLen:]...)}
	if millis > 0 {
		r.Expires = time.UnixMilli(int64(millis)).UTC()
	}
	return r, nil
}

// expiryMillis is t in milliseconds since 1970, moved into what the stored form can say. A time before 1970 becomes its first
// millisecond, since zero would read as "never": a record that is long gone must not become one that stays for ever.
func expiryMillis(t time.Time) int64 {
	switch {
	case t.Before(time.UnixMilli(1)):
		return 1
	case t.After(time.UnixMilli(lastExpiry)):
		return lastExpiry
	}
	return t.UnixMilli()
}
