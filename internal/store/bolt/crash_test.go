package bolt

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddy-mfa/caddy-mfa/internal/store"
)

// writeUntilKilled in the environment makes the test binary a process that commits to that file until it is killed.
const writeUntilKilled = "CADDY_MFA_TEST_WRITE_UNTIL_KILLED"

func TestMain(m *testing.M) {
	if path := os.Getenv(writeUntilKilled); path != "" {
		if err := commitForEver(path); err != nil {
			fmt.Println("failed:", err)
		}
		os.Exit(1)
	}
	os.Exit(m.Run())
}

const committers = 4

// commitForEver counts in several partitions at once, in two records each that must agree, and prints what is committed.
func commitForEver(path string) error {
	fmt.Println("started")
	s := newPatient(path)
	if err := s.Open(context.Background()); err != nil {
		return err
	}
	failed := make(chan error)
	for i := range committers {
		go func() { failed <- count(s, strconv.Itoa(i)) }()
	}
	return <-failed
}

func count(s *Store, partition string) error {
	ctx := context.Background()
	records, err := s.Get(ctx, partition, "left", "right", "expires")
	if err != nil {
		return err
	}
	n, _ := strconv.Atoi(string(records[0].Value))
	versions := []store.Version{records[0].Version, records[1].Version, store.Any}
	for {
		n++
		value := []byte(strconv.Itoa(n) + strings.Repeat(" ", n%5000))
		versions, err = s.Commit(ctx, store.Commit{Partition: partition, Changes: []store.Change{
			{Key: "left", If: versions[0], Value: value[:len(strconv.Itoa(n))]},
			{Key: "right", If: versions[1], Value: value},
			{Key: "expires", If: store.Any, Value: value, Expires: time.Now().Add(time.Duration(n%3-1) * time.Hour)},
		}})
		if err != nil {
			return err
		}
		os.Stdout.WriteString(partition + " " + strconv.Itoa(n) + "\n")
	}
}

func TestKilledProcessLosesNothing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store")
	committed := make(map[string]int)
	rounds := 0
	for kills := 0; kills < 20 || len(committed) < committers; kills++ {
		// Some of them die before, or while, they make the file.
		for partition, n := range runAndKill(t, path, rand.N(time.Duration(kills+1)*5*time.Millisecond)) {
			committed[partition] = n
		}
		wantCommitted(t, path, committed)
		if rounds++; rounds > 200 {
			t.Fatal("no process got so far as to commit")
		}
	}
	t.Logf("after %d kills: %v", rounds, committed)
}

func TestProcessThatIsKilledWhileItMakesTheFileLeavesNone(t *testing.T) {
	made := 0
	for range 20 {
		path := filepath.Join(t.TempDir(), "store")
		committed := runAndKill(t, path, rand.N(6*time.Millisecond))
		if _, err := os.Stat(path); err == nil {
			made++
		}
		wantCommitted(t, path, committed)
	}
	t.Logf("%d of 20 had made the file", made)
}

// runAndKill starts a process that commits, kills it some time later, and returns the last commit it has reported for each
// partition.
func runAndKill(t *testing.T, path string, after time.Duration) map[string]int {
	t.Helper()
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), writeUntilKilled+"="+path)
	output, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewReader(output)
	var kill sync.Once
	defer child.Process.Kill()
	committed := make(map[string]int)
	for {
		line, err := lines.ReadString('\n')
		if err == io.EOF { // what has no line end was being written when it was killed
			break
		} else if err != nil {
			t.Fatal(err)
		}
		partition, number, _ := strings.Cut(strings.TrimSpace(line), " ")
		n, err := strconv.Atoi(number)
		switch {
		case partition == "started":
			time.AfterFunc(after, func() { kill.Do(func() { child.Process.Kill() }) })
		case err != nil:
			t.Fatalf("the process printed %q", line)
		default:
			committed[partition] = n
		}
	}
	if err := child.Wait(); err == nil || child.ProcessState.Exited() {
		t.Fatalf("it was not killed: %v", child.ProcessState)
	}
	return committed
}

// wantCommitted opens the file and looks that every commit in it is whole, and at least what is given is there.
func wantCommitted(t *testing.T, path string, committed map[string]int) {
	t.Helper()
	s := newPatient(path)
	if err := s.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	for i := range committers {
		partition := strconv.Itoa(i)
		records, err := s.Get(t.Context(), partition, "left", "right")
		if err != nil {
			t.Fatal(err)
		}
		left, right := string(records[0].Value), strings.TrimSpace(string(records[1].Value))
		n, _ := strconv.Atoi(left)
		if left != right || n < committed[partition] {
			t.Fatalf("partition %s has %q and %q, and %d was committed", partition, left, right, committed[partition])
		}
	}
	if err := errors.Join(s.Close(), verifyFile(path)); err != nil {
		t.Fatal(err)
	}
}
