// Package duckdb keeps the store in DuckDB files inside the process: one file
// a tenant in one folder, nothing to install.
//
// # Writing
//
// Each batch is one transaction with one fsync, written by the one writer of
// its file. The batch is deduplicated in memory (the last record of a key
// wins), sorted by series and time, handed to DuckDB through a table function
// that fills its vectors directly, and merged: new keys are inserted, rows
// whose values differ are updated, equal rows are not touched, so that sending
// a batch again writes nothing.
//
// # Isolation
//
// A tenant is a file. There is no statement that reaches from one to another.
//
// # One process
//
// A process that writes owns the file; another one that opens it gets a
// [LockedError] that names the owner. Any number of processes may read a file
// that nobody writes.
package duckdb
