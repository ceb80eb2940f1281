package graph

import (
	"bytes"
	"encoding/binary"
	"errors"
	"unicode/utf16"
	"unicode/utf8"
)

// MaxSize bounds a file, in bytes. A tenant holds at most a few hundred policies of ten kilobytes; what is larger was made to hurt.
const MaxSize = 8 << 20

// text makes UTF-8 of what a backup tool wrote: UTF-8 or UTF-16, with a byte order mark or without. With an error comes what is before it.
func text(data []byte) ([]byte, error) {
	if rest, ok := bytes.CutPrefix(data, []byte("\xef\xbb\xbf")); ok {
		return rest, nil
	}
	if rest, ok := bytes.CutPrefix(data, []byte("\xff\xfe")); ok {
		return fromUTF16(rest, binary.LittleEndian)
	}
	if rest, ok := bytes.CutPrefix(data, []byte("\xfe\xff")); ok {
		return fromUTF16(rest, binary.BigEndian)
	}
	// JSON begins with a character of ASCII, and the half of it that is zero tells the order.
	switch {
	case len(data) >= 2 && data[0] != 0 && data[1] == 0:
		return fromUTF16(data, binary.LittleEndian)
	case len(data) >= 2 && data[0] == 0 && data[1] != 0:
		return fromUTF16(data, binary.BigEndian)
	}
	return data, nil
}

func fromUTF16(data []byte, order binary.ByteOrder) ([]byte, error) {
	out := make([]byte, 0, len(data)/2)
	for i := 0; i < len(data); i += 2 {
		if i+1 == len(data) {
			return out, errors.New("UTF-16 that ends in half a character")
		}
		r := rune(order.Uint16(data[i:]))
		if utf16.IsSurrogate(r) {
			if i += 2; i+1 < len(data) {
				r = utf16.DecodeRune(r, rune(order.Uint16(data[i:])))
			} else {
				r = utf8.RuneError
			}
			if r == utf8.RuneError {
				return out, errors.New("UTF-16 with half of a surrogate pair")
			}
		}
		out = utf8.AppendRune(out, r)
	}
	return out, nil
}
