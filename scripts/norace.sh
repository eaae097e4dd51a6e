#!/bin/sh
# Runs the tests in files that are not built with the race detector, which makes them 5 to
# 20 times slower: they are about numbers, times, and many inputs one after the other.
set -eu

files=$(grep -rl '^//go:build !race' --include='*_test.go' cmd internal)
# shellcheck disable=SC2086 # $files is a list of words
tests=$(grep -ho '^func Test[A-Za-z0-9_]*' $files | cut -d' ' -f2 | paste -sd'|' -)
# shellcheck disable=SC2086,SC2046 # both are lists of words
${GO:-go} test -vet=off -timeout 15m -run "^($tests)\$" $(dirname $files | sort -u | sed 's|^|./|')
