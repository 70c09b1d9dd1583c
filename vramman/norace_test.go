//go:build !race

package vramman

const raceEnabled = false
