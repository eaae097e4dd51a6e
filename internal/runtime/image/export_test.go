package image

// BuildWith is Build with another lock file.
var BuildWith = build
