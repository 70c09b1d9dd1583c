package host

import "os"

// Read is the memory that this process and its children have: the machine's, or
// what is left of the limits of the control groups that the process is in. It
// reads a few small files of the kernel's.
func Read() (Memory, error) { return read(os.DirFS("/")) }

// ReadMachine is the machine's memory, whatever limits this process. Servers that
// are containers of their own have that.
func ReadMachine() (Memory, error) { return readMachine(os.DirFS("/")) }
