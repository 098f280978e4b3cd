package api

import (
	"mime"
	"strconv"
	"strings"
)

const streamType = "text/event-stream"

// prefersStream tells whether a client would rather have an event stream than JSON: RFC 9110 section 12.5.1. Who likes
// both alike gets the stream if it names it.
func prefersStream(accept []string) bool {
	stream, json := offer{major: "text", minor: "event-stream"}, offer{major: "application", minor: "json"}
	for element := range strings.SplitSeq(strings.Join(accept, ","), ",") {
		kind, parameters, err := mime.ParseMediaType(element)
		if err != nil {
			continue // as if it were not there
		}
		quality, err := strconv.ParseFloat(parameters["q"], 64)
		if _, given := parameters["q"]; !given {
			quality, err = 1, nil
		}
		if err != nil || quality < 0 || quality > 1 {
			continue
		}
		stream.weigh(kind, quality)
		json.weigh(kind, quality)
	}
	return stream.quality > json.quality || stream.quality > 0 && stream.quality == json.quality && stream.match == exact
}

// The ways in which a media range may match, each more telling than the one before.
const (
	none = iota
	anything
	sameMajor
	exact
)

// offer is a media type that can be had, and how much a client likes it.
type offer struct {
	major, minor string
	match        int
	quality      float64 // what the range that matches best says; 0: it is not wanted
}

func (o *offer) weigh(kind string, quality float64) {
	match := none
	switch kind {
	case o.major + "/" + o.minor:
		match = exact
	case o.major + "/*":
		match = sameMajor
	case "*/*":
		match = anything
	}
	if match > o.match || match == o.match && match != none && quality > o.quality {
		o.match, o.quality = match, quality
	}
}
