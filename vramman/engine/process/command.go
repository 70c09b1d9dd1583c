// This file owns how the server's program is found.

package process

import (
	"errors"
	"fmt"
	"io/fs"
	"os/exec"
	"path/filepath"
	"strings"
)

// find looks the program up in the PATH of the server's own environment, not
// the gateway's: an environment entry such as PATH=/opt/venv/bin:/usr/bin is
// meant for it. A program with a slash is taken as it stands. Relative folders
// in PATH are passed over, since what they hold depends on where the gateway
// was started.
func find(program string, env []string) (string, error) {
	if strings.ContainsRune(program, filepath.Separator) {
		path, err := exec.LookPath(program)
		switch {
		case err == nil:
			return path, nil
		case errors.Is(err, fs.ErrPermission):
			return "", fmt.Errorf("process engine: %q cannot be executed: make it executable (chmod +x), or name another program: %w", program, fs.ErrPermission)
		case errors.Is(err, fs.ErrNotExist):
			return "", fmt.Errorf("process engine: %q does not exist: install the program, or correct its path: %w", program, fs.ErrNotExist)
		default:
			return "", fmt.Errorf("process engine: %q cannot be executed: %w", program, err)
		}
	}
	for _, dir := range filepath.SplitList(value(env, "PATH")) {
		if !filepath.IsAbs(dir) {
			continue
		}
		if path, err := exec.LookPath(filepath.Join(dir, program)); err == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("process engine: %q is not found in the server's PATH: install it, give its full path, or set PATH in the engine's environment: %w", program, exec.ErrNotFound)
}
