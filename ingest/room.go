package ingest

// load is an amount of records.
type load struct{ records, bytes int64 }

// room is one bound on what is queued and being written, in records or in bytes. Each of
// several users has a guaranteed share of half of it; what the others have not used of
// theirs is kept free. The other half goes to whoever comes first.
type room struct {
	capacity int64
	used     int64
	users    int64
	share    int64 // guaranteed to each user
	kept     int64 // of the shares, what is not used
}

// join adds a user, which uses nothing yet. used yields what each of the others does.
func (r *room) join(used func(yield func(int64) bool)) {
	r.users++
	r.share = 0
	if r.users > 1 {
		r.share = r.capacity / 2 / r.users
	}
	r.kept = r.share
	for u := range used {
		r.kept += max(0, r.share-u)
	}
}

// fits reports whether there is room for n more of a user that uses so much.
func (r *room) fits(used, n int64) bool {
	if r.used+n > r.capacity {
		return false
	}
	others := r.kept - max(0, r.share-used)
	if used+n <= r.share || r.used+n+others <= r.capacity {
		return true
	}
	// What is larger than all that one user may have at a time goes in when there is
	// room at all: otherwise it never would.
	return used == 0 && n > r.capacity-r.share*(r.users-1)
}

// add notes that a user uses n more, or less.
func (r *room) add(used *int64, n int64) {
	r.kept -= max(0, r.share-*used)
	*used += n
	r.used += n
	r.kept += max(0, r.share-*used)
}
