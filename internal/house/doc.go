// Package house holds no code, only the tests that keep the house rules of this
// repository: who may import whom, how large a file may grow, how files and
// packages are named, what go.mod may require, and that what the README tells
// a reader to type is what the repository has.
//
// docs/architecture.md and CONTRIBUTING.md state the rules in prose.
package house
