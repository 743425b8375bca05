// Clients of the shows of functions, with franz-go; each prints one line of JSON.
//
//	franz-go-wasm roundtrip -bootstrap HOST:PORT -source T -sink T -count N -rate PER_SECOND -size BYTES -partitions N -warm N
//	franz-go-wasm transform -bootstrap HOST:PORT -source T -sink T -count N -map identity|filter|json -group G -commit-ms N -codec C
//
// `roundtrip` is about what a transform from one topic to the other takes, and whether each record comes out once.
// `transform` does a transform's work as a client. The exit code is 0 when all went well, else 1.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
)

func main() {
	verb := ""
	if len(os.Args) > 1 {
		verb = os.Args[1]
	}
	flags := flag.NewFlagSet(verb, flag.ExitOnError)
	bootstrap := flags.String("bootstrap", "127.0.0.1:9092", "address of the broker")
	source := flags.String("source", "", "topic of the records")
	sink := flags.String("sink", "", "topic of what becomes of them")
	count := flags.Int("count", 0, "records of the source")
	rate := flags.Int("rate", 1000, "roundtrip: records a second")
	size := flags.Int("size", 200, "roundtrip: bytes of a value")
	partitions := flags.Int("partitions", 1, "roundtrip: partitions of the source")
	warm := flags.Int("warm", 0, "roundtrip: so many of the first records are not timed")
	apply := flags.String("map", "identity", "transform: what becomes of a record")
	group := flags.String("group", "peer", "transform: consumer group")
	commitMs := flags.Int("commit-ms", 1000, "transform: flush and commit so often")
	codec := flags.String("codec", "none", "transform: compression of the batches")
	if len(os.Args) > 2 {
		_ = flags.Parse(os.Args[2:]) // ExitOnError
	}
	var figures map[string]any
	var err error
	switch verb {
	case "roundtrip":
		r := roundtrip{*bootstrap, *source, *sink, *count, *rate, *size, *partitions, *warm}
		figures, err = r.run()
	case "transform":
		t := transform{*bootstrap, *source, *sink, *apply, *group, *codec, *count, *commitMs}
		figures, err = t.run()
	default:
		err = fmt.Errorf("unknown verb %q", verb)
	}
	if err == nil {
		err = json.NewEncoder(os.Stdout).Encode(figures)
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "franz-go-wasm: %v\n", err)
		os.Exit(1)
	}
}
