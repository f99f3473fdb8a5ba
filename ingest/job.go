package ingest

import (
	"slices"
	"time"

	"github.com/marketdatastore/mds"
)

// job is a batch on its way: what is written in one transaction, a chunk or several small
// ones of different lanes, and how far it has come. Its lanes are busy until all of it is
// settled, whether a worker has it or it is parked.
type job[R any] struct {
	tenant  *tenant[R]
	chunks  []*chunk[R]
	records []R
	began   []int // where each chunk's records begin
	bytes   int64
	memory  []R // for those of several chunks

	outcome
	size      int // of the next piece
	try       attempts
	setAside  []Refusal // to be kept as dead letters, or dropped
	letters   []Letter[R]
	blocked   error     // why they cannot be kept
	notBefore time.Time // the next attempt
	probe     probe
	writing   int       // records of the write under way
	begun     time.Time // when it was
	doubt     bool      // the last write was cut off
	panicked  bool      // that was logged
}

// outcome is what became of a batch.
type outcome struct {
	receipt mds.Receipt
	settled int       // records, from the first, that were written or refused
	refused []Refusal // of them; kept as dead letters, or dropped
}

// reset makes the job one of no batch, with its memory.
func (j *job[R]) reset() {
	*j = job[R]{chunks: j.chunks[:0], began: j.began[:0], memory: j.memory[:0]}
}

// gather lays the records side by side, once.
func (j *job[R]) gather() {
	if j.records != nil {
		return
	}
	if len(j.chunks) == 1 {
		j.records, j.began = j.chunks[0].records[j.chunks[0].head:], append(j.began, 0)
	} else {
		for _, ch := range j.chunks {
			j.began = append(j.began, len(j.memory))
			j.memory = append(j.memory, ch.records[ch.head:]...)
		}
		j.records = j.memory
	}
	j.size = len(j.records)
}

// at finds the chunk of record i, and its index there.
func (j *job[R]) at(i int) (*chunk[R], int) {
	n, found := slices.BinarySearch(j.began, i)
	if !found {
		n--
	}
	ch := j.chunks[n]
	return ch, ch.head + i - j.began[n]
}

// piece is what is written next.
func (j *job[R]) piece() []R {
	return j.records[j.settled:min(j.settled+j.size, len(j.records))]
}

// over reports that all of it is settled, and kept where it has to be.
func (j *job[R]) over() bool {
	return j.records != nil && j.settled == len(j.records) && len(j.setAside) == 0
}
