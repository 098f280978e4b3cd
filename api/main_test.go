package api_test

import (
	"flag"
	"testing"

	"go.uber.org/goleak"
)

// update renews the golden files.
var update = flag.Bool("update", false, "write testdata/*.golden anew")

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }
