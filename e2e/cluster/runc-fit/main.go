// Command runc-fit is a container runtime that asks runc for no more capabilities than this machine gives.
//
// Docker gives a privileged container (kind's nodes are such) every capability the kernel knows. In a
// sandbox that withholds one, runc then stops with "unable to apply caps". runc-fit drops those outside
// its own bounding set from the container's (or exec's) description, and becomes runc.
package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// The kernel's order: a name's index is its bit.
var capabilities = strings.Fields(`CAP_CHOWN CAP_DAC_OVERRIDE CAP_DAC_READ_SEARCH CAP_FOWNER CAP_FSETID CAP_KILL
	CAP_SETGID CAP_SETUID CAP_SETPCAP CAP_LINUX_IMMUTABLE CAP_NET_BIND_SERVICE CAP_NET_BROADCAST CAP_NET_ADMIN
	CAP_NET_RAW CAP_IPC_LOCK CAP_IPC_OWNER CAP_SYS_MODULE CAP_SYS_RAWIO CAP_SYS_CHROOT CAP_SYS_PTRACE
	CAP_SYS_PACCT CAP_SYS_ADMIN CAP_SYS_BOOT CAP_SYS_NICE CAP_SYS_RESOURCE CAP_SYS_TIME CAP_SYS_TTY_CONFIG
	CAP_MKNOD CAP_LEASE CAP_AUDIT_WRITE CAP_AUDIT_CONTROL CAP_SETFCAP CAP_MAC_OVERRIDE CAP_MAC_ADMIN CAP_SYSLOG
	CAP_WAKE_ALARM CAP_BLOCK_SUSPEND CAP_AUDIT_READ CAP_PERFMON CAP_BPF CAP_CHECKPOINT_RESTORE`)

func main() {
	err := fit(os.Args[1:])
	if err == nil {
		err = becomeRunc(os.Args[1:])
	}
	fmt.Fprintln(os.Stderr, "runc-fit:", err)
	os.Exit(1)
}

func becomeRunc(args []string) error {
	runc, err := exec.LookPath("runc")
	if err != nil {
		return err
	}
	return syscall.Exec(runc, append([]string{"runc"}, args...), os.Environ())
}

// fit rewrites the file, if the command line has one, that describes the process runc is to start.
func fit(args []string) error {
	verb, options := parse(args)
	switch verb {
	case "create", "run":
		return rewrite(filepath.Join(options["bundle"], "config.json"), "process")
	case "exec":
		if file := options["process"]; file != "" {
			return rewrite(file, "")
		}
	}
	return nil
}

// parse finds runc's command and the options that name files. Only options listed here have a value
// after a space, as containerd's shim writes them.
func parse(args []string) (verb string, options map[string]string) {
	long := map[string]string{"-b": "bundle", "--bundle": "bundle", "-p": "process", "--process": "process",
		"--root": "root", "--log": "log", "--log-format": "log-format"}
	options = map[string]string{}
	for i := 0; i < len(args); i++ {
		name, value, inline := strings.Cut(args[i], "=")
		option, known := long[name]
		switch {
		case known && inline:
			options[option] = value
		case known && i+1 < len(args):
			i++
			options[option] = args[i]
		case verb == "" && !strings.HasPrefix(name, "-"):
			verb = name
		}
	}
	return verb, options
}

// rewrite drops what cannot be had from every capability set of the process under key ("" = the document).
func rewrite(file, key string) error {
	raw, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	decoder := json.NewDecoder(bytes.NewReader(raw))
	decoder.UseNumber() // 64-bit limits do not fit a float
	var document map[string]any
	if err := decoder.Decode(&document); err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	process := document
	if key != "" {
		process, _ = document[key].(map[string]any)
	}
	have, err := bounding()
	if err != nil {
		return err
	}
	sets, _ := process["capabilities"].(map[string]any)
	for name, set := range sets {
		wanted, _ := set.([]any)
		kept := []any{}
		for _, capability := range wanted {
			if have[fmt.Sprint(capability)] {
				kept = append(kept, capability)
			}
		}
		sets[name] = kept
	}
	fitted, err := json.Marshal(document)
	if err != nil {
		return err
	}
	return os.WriteFile(file, fitted, 0o600) // the file exists: its mode stays
}

// bounding is the set of capabilities that this process, and so its children, can have.
func bounding() (map[string]bool, error) {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return nil, err
	}
	_, rest, _ := strings.Cut(string(status), "CapBnd:")
	line, _, _ := strings.Cut(rest, "\n")
	mask, err := strconv.ParseUint(strings.TrimSpace(line), 16, 64)
	if err != nil {
		return nil, fmt.Errorf("CapBnd in /proc/self/status: %w", err)
	}
	have := map[string]bool{}
	for bit, name := range capabilities {
		have[name] = mask&(1<<bit) != 0
	}
	return have, nil
}
