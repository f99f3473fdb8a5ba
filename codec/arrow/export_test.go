package arrow

import "github.com/marketdatastore/mds"

// Careful makes a reader read every row value by value.
func Careful[R mds.Record[R]](d *Reader[R]) { d.careful = true }
