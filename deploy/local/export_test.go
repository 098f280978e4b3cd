package local

// For tests from outside.
var (
	ErrPortTaken = errPortTaken
	OnFreePort   = onFreePort
)

// ProcessTable returns the parent of every process, and which ones are stopped or dead.
func ProcessTable() (parents map[int]int, stopped map[int]bool, err error) {
	table, err := processTable()
	parents, stopped = map[int]int{}, map[int]bool{}
	for _, s := range table {
		parents[s.pid] = s.parent
		stopped[s.pid] = s.stopped || s.dead
	}
	return parents, stopped, err
}
