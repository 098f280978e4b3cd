package hub

import "context"

// Batch is what the leader publishes in one go: the events at From+1 … Head, in position order, and the claim that
// there are no others up to Head. An empty batch with From == Head is a heartbeat.
//
// From is the position before the first of them. A replica whose own position is below From has missed something,
// and reads the log; so a batch that could not be published needs no second try.
type Batch struct {
	// Log is the name of the log; see Cursor.
	Log    string
	Epoch  Epoch
	From   Position
	Head   Position
	Events []*Event
}

// Mark is the part of a Batch that every replica receives, whoever its users are: it follows the batch's events, on the
// same connection, so that a replica that receives it has received those of its owners before.
type Mark struct {
	Log   string
	Epoch Epoch
	From  Position
	Head  Position
}

// Receiver is what a Bus hands over to. A Bus calls it from one goroutine, in the order of arrival; no method blocks.
type Receiver interface {
	// Deliver hands over one event of an owner who was subscribed. It may be one that was delivered before.
	Deliver(log string, epoch Epoch, event *Event)
	// Advance hands over a mark.
	Advance(mark Mark)
	// Up says that everything subscribed is confirmed: what is published from here on arrives. What was published
	// before may be missing.
	Up()
	// Down says that the bus carries nothing for now, and why. Events are read from the log until Up.
	Down(reason error)
}

// Bus carries events from the leader to the replicas. It may lose, repeat and delay; it is an accelerator, never the
// truth. Its methods are safe for concurrent use.
type Bus interface {
	// Subscribe returns when what is published for owner arrives here, or with an error when ctx ends first. While the
	// bus is down it returns at once with nil: the owner is subscribed when it is up again, and Up comes after that.
	Subscribe(ctx context.Context, owner Owner) error
	// Unsubscribe ends a subscription, without waiting.
	Unsubscribe(owner Owner)
	// Run carries until ctx ends and returns nil then. It is called once.
	Run(ctx context.Context, receiver Receiver) error
}
