// What a Go client of the matrix is made of: steps, each of which prints what it got (see matrix.sh).
package main

import (
	"fmt"
	"math/big"
	"os"
	"reflect"
	"strings"
	"time"
)

const (
	ada, bob, zoe = "ada.kanarie@example.org", "bob.kanarie@example.org", "zoë.kanarie@example.org"
	token         = "6ba7b810-9dad-11d1-80b4-00c04fd430c8"
	bigNumber     = int64(9007199254740993)
	columns       = "id, email, name, born, salary, score, active, token, seen, woke, small, visits, big, blob, doc, note"
)

var (
	born = time.Date(1815, 12, 10, 0, 0, 0, 0, time.UTC)
	seen = time.Date(2026, 3, 1, 10, 30, 0, 250000000, time.UTC)
	woke = time.Date(2026, 3, 1, 6, 15, 0, 0, time.UTC)
	blob = []byte{0, 255, 16, 254, 209}
)

type step struct {
	name string
	run  func()
}

func bulk(first, count int) (ids []int, emails, names []string) {
	for i := first; i < first+count; i++ {
		ids, emails, names = append(ids, i), append(emails, fmt.Sprintf("bulk%d.kanarie@example.org", i)), append(names, fmt.Sprintf("kanarie %d", i))
	}
	return
}

func text(value interface{}) string {
	switch v := value.(type) {
	case nil:
		return "NULL"
	case time.Time:
		return v.UTC().Format(time.RFC3339Nano)
	case *big.Int:
		return v.String()
	}
	if v := reflect.ValueOf(value); v.Kind() == reflect.Ptr && !v.IsNil() {
		return text(v.Elem().Interface())
	} else if v.Kind() == reflect.Ptr {
		return "NULL"
	}
	return fmt.Sprintf("%v", value)
}

func show(values ...interface{}) {
	parts := make([]string, len(values))
	for i, value := range values {
		parts[i] = text(value)
	}
	fmt.Println("   " + strings.Join(parts, " "))
}

func same(what string, got, expected interface{}) {
	if !reflect.DeepEqual(got, expected) {
		panic(fmt.Errorf("%s: %v is not %v", what, got, expected))
	}
	show(what, got)
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

// attempt runs one step; a failure says how.
func attempt(s step, recovered func()) {
	defer func() {
		if err := recover(); err != nil {
			fmt.Printf("failed: %T: %s\n", err, strings.Join(strings.Fields(fmt.Sprint(err)), " "))
			recovered()
		}
	}()
	fmt.Println("## " + s.name)
	s.run()
}

func runSteps(version string, scenario, introspect []step, recovered func()) {
	fmt.Println("version " + version)
	chosen := scenario
	if os.Args[2] == "introspect" {
		chosen = introspect
	}
	for _, s := range chosen {
		attempt(s, recovered)
	}
}
