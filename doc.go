// Package mds holds the records of the market data store and the contracts
// between its parts: what a bar is, what makes two bars the same, what a batch
// of them became in the store.
//
// It imports the standard library only. Open a store with
// [github.com/marketdatastore/mds/store], write through
// [github.com/marketdatastore/mds/sink], read files with
// [github.com/marketdatastore/mds/codec].
//
// # Time
//
// Every time is kept in UTC with microsecond precision; finer digits are cut
// off. A window is half open: [start, end). Bars of calendar timeframes (1d,
// 1w, 1mo) are labelled by the first exchange-local date of their period, kept
// as 00:00 UTC of that date; see [Timeframe.Truncate].
//
// # Missing values
//
// A value that a vendor did not deliver is [None]; NaN never stands for it and
// is refused, as are infinities. Writing a record replaces the stored one
// whole: a value missing in the newer record is missing afterwards.
package mds
