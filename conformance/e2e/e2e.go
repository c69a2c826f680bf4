// Package e2e keeps upstream's conformance suite among this module's dependencies, so that its test binary can be
// built from here: the main function of e2e.test stands in a _test.go file, which no tool line can name.
package e2e

import _ "k8s.io/kubernetes/test/e2e"
