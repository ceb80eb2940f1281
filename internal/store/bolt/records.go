package bolt

import (
	"encoding/binary"
	"time"
)

// A record stands in the bucket "records" under its partition, NUL, and its key, in the form of store.Record.Marshal. Neither
// name can contain a NUL, so a partition is one range of keys, and its records are sorted.
//
// A record that expires also stands in the bucket "expiries", under the time (milliseconds since 1970, 8 bytes, big endian) and
// the key above, without a value: the next one to expire comes first.
var (
	metaBucket     = []byte("meta")
	recordsBucket  = []byte("records")
	expiriesBucket = []byte("expiries")

	formatKey   = []byte("format")
	formatMagic = []byte("caddy-mfa store ") // then the version, a byte

	nul = []byte{0}
)

// formatVersion is the version of what is described above. A file with a higher one is refused.
const formatVersion = 1

func recordKey(partition, key string) []byte {
	b := make([]byte, 0, len(partition)+1+len(key))
	b = append(b, partition...)
	b = append(b, 0)
	return append(b, key...)
}

const expiryLen = 8

func expiryKey(expires time.Time, recordKey []byte) []byte {
	b := make([]byte, 0, expiryLen+len(recordKey))
	b = binary.BigEndian.AppendUint64(b, uint64(expires.UnixMilli()))
	return append(b, recordKey...)
}
