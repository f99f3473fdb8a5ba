package main

import (
	"os"
	"testing"

	"github.com/marketdatastore/mds/internal/pgtest"
)

// asProgram makes the test binary be the program, for tests that need a
// process of their own: to kill it, to signal it, to have two.
const asProgram = "MDS_TEST_AS_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		main()
		return
	}
	code := m.Run()
	pgtest.Stop()
	os.Exit(code)
}
