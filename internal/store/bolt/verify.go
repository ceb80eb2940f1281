package bolt

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"slices"

	"github.com/caddy-mfa/caddy-mfa/internal/store"
)

// What a file holds is verified before bbolt sees it, by reading the pages as bytes.
//
// bbolt maps the file into memory and trusts what it finds there: a damaged page number makes it read outside of the map, which
// ends the process, and its own Check does that in a goroutine where nobody can catch it. Reading costs no more than Check: less
// than 0.1 s for a file of 100 MB that is in the page cache (BenchmarkOpen), a second or so from a disk. That is paid once for
// each start of the process, since the open file outlives reloads, and buys that a damaged file is refused at the start instead
// of losing registrations later on.

// Kinds of problem that call for different advice.
var (
	errNotBolt   = errors.New("it is no bolt database")
	errNotOurs   = errors.New("it is the database of another program")
	errNewer     = errors.New("it was written by a newer version of this program")
	errTruncated = errors.New("it was cut off")
	errDamaged   = errors.New("it is damaged")
)

func damaged(format string, args ...any) error {
	return fmt.Errorf("%w: %s", errDamaged, fmt.Sprintf(format, args...))
}

// The layout of a bolt file, version 2, in the byte order of the machine that wrote it.
const (
	boltMagic   = 0xED0CDAED
	boltVersion = 2

	pageHeaderLen = 16 // id 8, flags 2, count 2, overflow 4
	metaLen       = 64 // magic 4, version 4, page size 4, flags 4, root 8+8, freelist 8, end 8, transaction 8, checksum 8
	elementLen    = 16 // of a branch: position 4, key size 4, page 8; of a leaf: flags 4, position 4, key size 4, value size 4
	bucketLen     = 16 // root page 8, sequence 8

	branchPage   = 0x01
	leafPage     = 0x02
	freelistPage = 0x10
	bucketFlag   = 0x01

	// maxDepth is far beyond the depth that a tree of MaxName keys in a file of any size can reach.
	maxDepth = 64
)

var order = binary.NativeEndian

// meta is what the verifier needs of a meta page.
type meta struct {
	pageSize    int
	root        uint64
	freelist    uint64
	end         uint64 // the first page behind the used part of the file
	transaction uint64
}

func parseMeta(page []byte) (meta, bool) {
	if len(page) < pageHeaderLen+metaLen {
		return meta{}, false
	}
	b := page[pageHeaderLen : pageHeaderLen+metaLen]
	sum := fnv.New64a()
	sum.Write(b[:56])
	if order.Uint32(b) != boltMagic || order.Uint32(b[4:]) != boltVersion || order.Uint64(b[56:]) != sum.Sum64() {
		return meta{}, false
	}
	m := meta{
		pageSize:    int(order.Uint32(b[8:])),
		root:        order.Uint64(b[16:]),
		freelist:    order.Uint64(b[32:]),
		end:         order.Uint64(b[40:]),
		transaction: order.Uint64(b[48:]),
	}
	ok := m.pageSize >= 1024 && m.pageSize <= 1<<16 && m.pageSize&(m.pageSize-1) == 0
	return m, ok
}

// readMeta finds the meta page that counts: of the two that commits write in turn, the newer one that is whole.
func readMeta(file io.ReaderAt) (meta, error) {
	at := func(offset int64) (meta, bool) {
		page := make([]byte, pageHeaderLen+metaLen)
		if _, err := file.ReadAt(page, offset); err != nil {
			return meta{}, false
		}
		return parseMeta(page)
	}
	first, ok := at(0)
	if !ok {
		// The first one is torn, or this is no bolt file. The second one stands where the page size says, which only it knows.
		for size := 1024; size <= 1<<16; size *= 2 {
			if second, ok := at(int64(size)); ok && second.pageSize == size {
				return second, nil
			}
		}
		return meta{}, errNotBolt
	}
	if second, ok := at(int64(first.pageSize)); ok && second.pageSize == first.pageSize && second.transaction > first.transaction {
		return second, nil
	}
	return first, nil
}

// verify reports what is wrong with a store file of size bytes, or nil.
func verify(file io.ReaderAt, size int64) error {
	m, err := readMeta(file)
	if err != nil {
		return err
	}
	if m.end > uint64(size)/uint64(m.pageSize) {
		return fmt.Errorf("%w: it has %d bytes of %d pages of %d", errTruncated, size, m.end, m.pageSize)
	}
	v := &verifier{file: file, meta: m, used: make([]bool, m.end)}
	if m.end < 4 {
		return damaged("it has %d pages", m.end)
	}
	v.used[0], v.used[1] = true, true
	buckets := make(map[string][]byte)
	err = v.tree(m.root, nil, nil, 0, func(e leaf) error {
		if !e.bucket {
			return fmt.Errorf("%w: it has a record at its root", errNotOurs)
		}
		buckets[string(e.key)] = bytes.Clone(e.value)
		return nil
	})
	if err != nil {
		return err
	}
	// The mark comes first: a newer format may have other buckets and other records.
	for _, b := range []struct {
		name  []byte
		check func(leaf) error
	}{{metaBucket, v.mark}, {recordsBucket, v.record}, {expiriesBucket, v.expiry}} {
		value, ok := buckets[string(b.name)]
		if !ok {
			return fmt.Errorf("%w: it has no bucket %q", errNotOurs, b.name)
		}
		if err := v.bucket(value, b.check); err != nil {
			return fmt.Errorf("%w (bucket %q)", err, b.name)
		}
		if !v.ours {
			return fmt.Errorf("%w: it has no mark of this one", errNotOurs)
		}
		delete(buckets, string(b.name))
	}
	for name := range buckets {
		return fmt.Errorf("%w: it has a bucket %q", errNotOurs, name)
	}
	if v.expiring != v.expiries {
		return damaged("%d records expire, its index of expiries has %d", v.expiring, v.expiries)
	}
	return v.freelist()
}

// verifier walks through a file and notes which pages it has seen.
type verifier struct {
	file io.ReaderAt
	meta meta
	used []bool

	buffers  [maxDepth][]byte
	ours     bool   // the mark of this program was there
	expiring uint64 // records that have an expiry
	expiries uint64 // entries in the index of expiries
}

// bucket verifies one bucket, which is a page tree of its own, or a page inside of value if it is small.
func (v *verifier) bucket(value []byte, check func(leaf) error) error {
	if len(value) < bucketLen {
		return damaged("a bucket is cut off")
	}
	each := func(e leaf) error {
		if e.bucket {
			return fmt.Errorf("%w: it has buckets inside of buckets", errNotOurs)
		}
		return check(e)
	}
	if root := order.Uint64(value); root != 0 {
		return v.tree(root, nil, nil, 0, each)
	}
	inline := value[bucketLen:]
	if len(inline) < pageHeaderLen || order.Uint16(inline[8:]) != leafPage {
		return damaged("a bucket has no page")
	}
	return v.leaves(inline, nil, nil, each)
}

// mark looks for the mark that create leaves.
func (v *verifier) mark(e leaf) error {
	if string(e.key) != string(formatKey) {
		return nil
	}
	number, ours := bytes.CutPrefix(e.value, formatMagic)
	if !ours || len(number) != 1 {
		return fmt.Errorf("%w: it has another mark", errNotOurs)
	}
	if number[0] > formatVersion {
		return fmt.Errorf("%w: its format is %d, this one knows %d", errNewer, number[0], formatVersion)
	}
	v.ours = true
	return nil
}

func (v *verifier) record(e leaf) error {
	_, key, found := bytes.Cut(e.key, nul)
	if !found {
		return damaged("record %q is in no partition", e.key)
	}
	r, err := store.Unmarshal(string(key), e.value[:min(len(e.value), store.HeaderLen)])
	if err != nil {
		return fmt.Errorf("%w: %w", errDamaged, err)
	}
	if !r.Expires.IsZero() {
		v.expiring++
	}
	return nil
}

func (v *verifier) expiry(e leaf) error {
	if len(e.key) <= expiryLen || len(e.value) != 0 {
		return damaged("its index of expiries has the key %q", e.key)
	}
	v.expiries++
	return nil
}

// page reads a page and what overflows from it into the buffer, and notes that it is used.
func (v *verifier) page(id uint64, buffer *[]byte) ([]byte, error) {
	if id < 2 || id >= v.meta.end {
		return nil, damaged("it refers to page %d of %d", id, v.meta.end)
	}
	read := func(from, to uint64) error {
		*buffer = slices.Grow((*buffer)[:from], int(to-from))[:to]
		if _, err := v.file.ReadAt((*buffer)[from:], int64(id)*int64(v.meta.pageSize)+int64(from)); err != nil {
			return fmt.Errorf("%w: reading page %d: %w", errDamaged, id, err)
		}
		return nil
	}
	size := uint64(v.meta.pageSize)
	if err := read(0, size); err != nil {
		return nil, err
	}
	overflow := uint64(order.Uint32((*buffer)[12:]))
	if says := order.Uint64(*buffer); says != id || overflow >= v.meta.end-id {
		return nil, damaged("page %d says that it is page %d and %d more", id, says, overflow)
	}
	for i := id; i <= id+overflow; i++ {
		if v.used[i] {
			return nil, damaged("page %d is used twice", i)
		}
		v.used[i] = true
	}
	if err := read(size, size*(overflow+1)); err != nil {
		return nil, err
	}
	return *buffer, nil
}

// leaf is an element of a leaf page.
type leaf struct {
	key, value []byte
	bucket     bool
}

// tree verifies the page id and those below it, whose keys must be from low to below high (nil: no bound). A page that was seen
// before is an error, so this ends.
func (v *verifier) tree(id uint64, low, high []byte, depth int, each func(leaf) error) error {
	if depth == maxDepth {
		return damaged("page %d is %d levels deep", id, depth)
	}
	// A page is done with when those below it are, so there is one buffer for each level.
	page, err := v.page(id, &v.buffers[depth])
	if err != nil {
		return err
	}
	switch flags := order.Uint16(page[8:]); flags {
	case leafPage:
		return v.leaves(page, low, high, each)
	case branchPage:
	default:
		return damaged("page %d has type %#x inside of a tree", id, flags)
	}
	count := int(order.Uint16(page[10:]))
	if count == 0 {
		return damaged("page %d has no pages below it", id)
	}
	var child uint64
	var key []byte
	for i := range count {
		element, err := elementAt(page, i, count)
		if err != nil {
			return err
		}
		next, err := cut(element, order.Uint32(element), 0, order.Uint32(element[4:]))
		if err != nil {
			return err
		}
		if err := inOrder(key, next, low, high); err != nil {
			return err
		}
		if i > 0 {
			if err := v.tree(child, key, next, depth+1, each); err != nil {
				return err
			}
		}
		child, key = order.Uint64(element[8:]), next
	}
	return v.tree(child, key, high, depth+1, each)
}

func (v *verifier) leaves(page, low, high []byte, each func(leaf) error) error {
	count := int(order.Uint16(page[10:]))
	var key []byte
	for i := range count {
		element, err := elementAt(page, i, count)
		if err != nil {
			return err
		}
		position, keyLen, valueLen := order.Uint32(element[4:]), order.Uint32(element[8:]), order.Uint32(element[12:])
		next, err := cut(element, position, 0, keyLen)
		if err != nil {
			return err
		}
		value, err := cut(element, position, keyLen, valueLen)
		if err != nil {
			return err
		}
		if err := inOrder(key, next, low, high); err != nil {
			return err
		}
		key = next
		if err := each(leaf{key, value, order.Uint32(element)&bucketFlag != 0}); err != nil {
			return err
		}
	}
	return nil
}

// elementAt returns the page from its element i on; positions count from there.
func elementAt(page []byte, i, count int) ([]byte, error) {
	if pageHeaderLen+count*elementLen > len(page) {
		return nil, damaged("page %d has %d elements", order.Uint64(page), count)
	}
	return page[pageHeaderLen+i*elementLen:], nil
}

// cut returns length bytes of element behind position and skip.
func cut(element []byte, position, skip, length uint32) ([]byte, error) {
	begin := uint64(position) + uint64(skip)
	end := begin + uint64(length)
	if position < elementLen || end > uint64(len(element)) {
		return nil, damaged("a key or value is outside of its page")
	}
	return element[begin:end], nil
}

// inOrder compares a key with the one before it and with the bounds of its page (nil: none). bbolt finds keys by halving: one
// that is out of order is one that is lost.
func inOrder(before, key, low, high []byte) error {
	if len(key) == 0 || bytes.Compare(before, key) >= 0 || bytes.Compare(key, low) < 0 || high != nil && bytes.Compare(key, high) >= 0 {
		return damaged("key %q is out of order", key)
	}
	return nil
}

// freelist verifies that no page is free that is in use, since the next commit would overwrite it. A page that is neither is
// merely lost, and no reason to refuse a file.
func (v *verifier) freelist() error {
	page, err := v.page(v.meta.freelist, &v.buffers[0])
	if err != nil {
		return err
	}
	if flags := order.Uint16(page[8:]); flags != freelistPage {
		return damaged("page %d has type %#x instead of the list of free pages", v.meta.freelist, flags)
	}
	ids, count := page[pageHeaderLen:], uint64(order.Uint16(page[10:]))
	if count == 0xFFFF { // too many for the header: the first one is the number of those that follow
		count, ids = order.Uint64(ids), ids[8:]
	}
	if count > uint64(len(ids)/8) {
		return damaged("%d free pages are listed in %d bytes", count, len(ids))
	}
	for i := range count {
		id := order.Uint64(ids[8*i:])
		if id < 2 || id >= v.meta.end {
			return damaged("page %d of %d is free", id, v.meta.end)
		}
		if v.used[id] {
			return damaged("page %d is free and in use", id)
		}
		v.used[id] = true
	}
	return nil
}
