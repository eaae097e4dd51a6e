// Package image makes the container image that agents run in, and loads it into an engine.
//
// The image has a layer of Debian packages, which lock/debian.lock pins, one of Node and one
// of OpenClaw, which package install pins, and the relay, which is the first process of each
// container. No program of a package runs while it is made, and no container engine is
// needed. The same locks and the same relay give the same image on every machine.
package image
