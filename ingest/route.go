package ingest

import (
	"hash/maphash"
	"math/rand/v2"
	"strings"
	"sync/atomic"

	"github.com/marketdatastore/mds"
)

// router tells the lane of a record: that of its series, however it is spelled.
type router[R any] struct {
	schema   mds.Schema[R]
	identity []*mds.Column[R]
	size     func(*R) int
	lanes    uint64
	seed     maphash.Seed
	plain    bool // records hold on to nothing but their identity's texts
	// known are the lanes of series as they were spelled lately, found by the hash of
	// their spelling.
	known [known]atomic.Pointer[spelling[R]]
}

// known is how many spellings are remembered.
const known = 1 << 15

// spelling is a series as a record spells it.
type spelling[R any] struct {
	record R // of which the identity counts
	lane   int
}

func newRouter[R any](schema mds.Schema[R], lanes int) *router[R] {
	return &router[R]{schema: schema, identity: schema.ByRole(mds.Identity), size: schema.Sizer(), lanes: uint64(lanes), seed: maphash.MakeSeed(), plain: schema.Plain()}
}

// lane returns the lane of a record. stored is memory to work in.
func (r *router[R]) lane(record, stored *R) int {
	hash := r.hash(record)
	places := [2]*atomic.Pointer[spelling[R]]{&r.known[hash%known], &r.known[hash>>32%known]}
	for _, place := range places {
		if s := place.Load(); s != nil && mds.Compare(r.identity, &s.record, record) == 0 {
			return s.lane
		}
	}
	*stored = *record
	if r.schema.Validate(stored) != nil {
		return int(hash % r.lanes) // it is of no series: no write takes it
	}
	r.schema.Normalize(stored)
	lane := int(r.hash(stored) >> 32 % r.lanes)
	place := places[0]
	if place.Load() != nil {
		place = places[1]
	}
	const few = 16                                     // of the series that find no place take that of another
	if place.Load() == nil || rand.Uint32()%few == 0 { //nolint:gosec // nothing secret
		s := &spelling[R]{lane: lane}
		for _, c := range r.identity { // not what else the record holds on to
			if c.Copy(&s.record, record); c.Text != nil {
				*c.Text(&s.record) = strings.Clone(*c.Text(record)) // not what it was cut from
			}
		}
		place.Store(s)
	}
	return lane
}

// hash is that of the identity as it is spelled.
func (r *router[R]) hash(record *R) uint64 {
	const mixer = 0x9e3779b97f4a7c15 // 2⁶⁴ divided by the golden ratio
	var hash uint64
	for _, c := range r.identity {
		var v uint64
		switch {
		case c.Text != nil:
			v = maphash.String(r.seed, *c.Text(record))
		case c.Date != nil:
			d := c.Date(record)
			v = uint64(d.Year)<<16 | uint64(d.Month)<<8 | uint64(d.Day)
		case c.Decimal != nil:
			v = uint64(*c.Decimal(record))
		case c.Time != nil:
			v = uint64(c.Time(record).UnixNano())
		}
		hash = (hash ^ v) * mixer
		hash ^= hash >> 29
	}
	return hash
}

// routes are where the records of one submit go. They are used again.
type routes[R any] struct {
	lanes []int32
	sizes []int64
	bytes int64
	parts []*chunk[R] // that records went into
	// one is the record that is looked at: a caller's own would have to be on the heap
	// for that.
	one, stored R
}

func newRoutes[R any](lanes int) *routes[R] {
	return &routes[R]{parts: make([]*chunk[R], 0, lanes)}
}

// plan fills in the routes of records.
func (r *router[R]) plan(to *routes[R], records []R) {
	to.lanes, to.sizes, to.bytes = to.lanes[:0], to.sizes[:0], 0
	for i := range records {
		to.one = records[i]
		size := int64(r.size(&to.one))
		to.sizes = append(to.sizes, size)
		to.bytes += size
		if r.lanes > 1 {
			to.lanes = append(to.lanes, int32(r.lane(&to.one, &to.stored)))
		}
	}
}
