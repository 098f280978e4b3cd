package redisbus

import (
	"encoding/binary"
	"encoding/json"
	"strings"
	"unicode/utf8"

	"github.com/reelay/reelay/hub"
)

// The body of a message is a kind byte, and the fields of its kind, one after the other, with nothing after them:
//
//	event  log epoch position owner sequence outboxID type subject seconds nanoseconds data
//	mark   log epoch from head serial
//
// The serial of a mark grows from one mark of a leader to the next, so that a repeated mark shows; see heard.
//
// A text or data field is its length as an unsigned varint, and its bytes; absent data has length 0. A number is an
// unsigned varint in its shortest form, below 2^63: there is no spelling of a negative one. Seconds alone may be
// negative (before 1970) and are a signed varint. So every body has exactly one spelling.
const (
	kindEvent = 'e'
	kindMark  = 'm'
)

const (
	// maxBody bounds the body of a message, in bytes.
	maxBody = maxMessage - envelope
	// maxLog bounds the name of a log, in bytes, as hub.ParseCursor does.
	maxLog = 32
	// minSeconds and maxSeconds are the years 1 to 9999 in Unix time: RFC 3339 has no others.
	minSeconds, maxSeconds = -62135596800, 253402300799
	// ownTypes begins the types of the gateway's own frames. A client trusts them, so they never come from here.
	ownTypes = "reelay."
)

// rejection is why a message is refused. It is an error and the label of a metric.
type rejection string

const (
	rejectedSize      rejection = "size"
	rejectedVersion   rejection = "version"
	rejectedSignature rejection = "signature" // from somebody without the key, or changed, or from another channel
	rejectedKind      rejection = "kind"
	rejectedLayout    rejection = "layout" // cut off, too long, or a number in a longer form than needed
	rejectedNumber    rejection = "number"
	rejectedLog       rejection = "log"
	rejectedChannel   rejection = "channel" // an owner's event on the channel of another
	rejectedType      rejection = "type"
	rejectedText      rejection = "text"
	rejectedTime      rejection = "time"
	rejectedData      rejection = "data"
	rejectedOld       rejection = "old" // a mark that is no newer than one before it
)

// rejections is all of them, so that each metric stands at 0 from the start.
var rejections = []rejection{
	rejectedSize, rejectedVersion, rejectedSignature, rejectedKind, rejectedLayout, rejectedNumber, rejectedLog,
	rejectedChannel, rejectedType, rejectedText, rejectedTime, rejectedData, rejectedOld,
}

// Error implements error.
func (r rejection) Error() string { return "refuse a message: bad " + string(r) }

// appendEvent appends the body of an event's message to buf. It refuses what decode would refuse, so that no event is taken
// for published that no replica accepts.
func appendEvent(buf []byte, log string, epoch hub.Epoch, event *hub.Event) ([]byte, error) {
	if err := checkEvent(log, epoch, event); err != nil {
		return buf, err
	}
	start := len(buf)
	buf = append(buf, kindEvent)
	buf = appendText(buf, log)
	buf = appendNumber(buf, int64(epoch))
	buf = appendNumber(buf, int64(event.Position))
	buf = appendText(buf, string(event.Owner))
	buf = appendNumber(buf, int64(event.Sequence))
	buf = appendNumber(buf, event.OutboxID)
	buf = appendText(buf, event.Type)
	buf = appendText(buf, event.Subject)
	buf = binary.AppendVarint(buf, event.Time.Unix())
	buf = appendNumber(buf, int64(event.Time.Nanosecond()))
	buf = binary.AppendUvarint(buf, uint64(len(event.Data)))
	buf = append(buf, event.Data...)
	if len(buf)-start > maxBody {
		return buf[:start], rejectedSize
	}
	return buf, nil
}

// appendMark appends the body of a mark's message to buf.
func appendMark(buf []byte, mark hub.Mark, serial int64) ([]byte, error) {
	if err := checkMark(mark, serial); err != nil {
		return buf, err
	}
	buf = append(buf, kindMark)
	buf = appendText(buf, mark.Log)
	buf = appendNumber(buf, int64(mark.Epoch))
	buf = appendNumber(buf, int64(mark.From))
	buf = appendNumber(buf, int64(mark.Head))
	return appendNumber(buf, serial), nil
}

func appendText(buf []byte, text string) []byte {
	return append(binary.AppendUvarint(buf, uint64(len(text))), text...)
}

// appendNumber is for numbers that were checked: none is negative.
func appendNumber(buf []byte, n int64) []byte {
	return binary.AppendUvarint(buf, uint64(n))
}

// decoder decodes the bodies of messages. It remembers the name of the log, which is the same in all of them, so that a thousand
// events share one.
type decoder struct {
	log string
}

// event decodes the body of an event's message. The event's data is part of body, which is the event's from here on.
func (d *decoder) event(body []byte) (log string, epoch hub.Epoch, event *hub.Event, err error) {
	f, err := open(body, kindEvent)
	if err != nil {
		return "", 0, nil, err
	}
	log = d.logName(f.text())
	epoch = hub.Epoch(f.number())
	event = &hub.Event{
		Position: hub.Position(f.number()),
		Owner:    hub.Owner(f.text()),
		Sequence: hub.Sequence(f.number()),
		OutboxID: f.number(),
		Type:     string(f.text()),
		Subject:  string(f.text()),
		Time:     f.time(),
	}
	if data := f.text(); len(data) > 0 {
		event.Data = json.RawMessage(data)
	}
	if err := f.close(); err != nil {
		return "", 0, nil, err
	}
	if err := checkEvent(log, epoch, event); err != nil {
		return "", 0, nil, err
	}
	return log, epoch, event, nil
}

// mark decodes the body of a mark's message.
func (d *decoder) mark(body []byte) (mark hub.Mark, serial int64, err error) {
	f, err := open(body, kindMark)
	if err != nil {
		return hub.Mark{}, 0, err
	}
	mark = hub.Mark{
		Log:   d.logName(f.text()),
		Epoch: hub.Epoch(f.number()),
		From:  hub.Position(f.number()),
		Head:  hub.Position(f.number()),
	}
	serial = f.number()
	if err := f.close(); err != nil {
		return hub.Mark{}, 0, err
	}
	if err := checkMark(mark, serial); err != nil {
		return hub.Mark{}, 0, err
	}
	return mark, serial, nil
}

func (d *decoder) logName(name []byte) string {
	if d.log != string(name) {
		d.log = string(name)
	}
	return d.log
}

// checkEvent says what is wrong with an event, sent or received.
func checkEvent(log string, epoch hub.Epoch, event *hub.Event) error {
	switch seconds := event.Time.Unix(); {
	case len(event.Data) > maxBody: // before the work of validating it
		return rejectedSize
	case !validLog(log):
		return rejectedLog
	case epoch < 0 || event.Position < 1 || event.Sequence < 1 || event.OutboxID < 0:
		return rejectedNumber
	case event.Type == "" || strings.HasPrefix(event.Type, ownTypes):
		return rejectedType
	case !utf8.ValidString(event.Type) || !utf8.ValidString(event.Subject):
		return rejectedText
	case seconds < minSeconds || seconds > maxSeconds:
		return rejectedTime
	case event.Data == nil:
		return nil
	case !json.Valid(event.Data) || !utf8.Valid(event.Data): // the first does not look at UTF-8
		return rejectedData
	default:
		return nil
	}
}

// checkMark says what is wrong with a mark, sent or received.
func checkMark(mark hub.Mark, serial int64) error {
	switch {
	case !validLog(mark.Log):
		return rejectedLog
	case mark.Epoch < 0 || mark.From < 0 || mark.Head < mark.From || serial < 1:
		return rejectedNumber
	default:
		return nil
	}
}

// validLog says whether a cursor could carry the name. It is part of every id that a client sees.
func validLog(name string) bool {
	if name == "" || len(name) > maxLog {
		return false
	}
	for _, c := range []byte(name) {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') {
			return false
		}
	}
	return true
}
