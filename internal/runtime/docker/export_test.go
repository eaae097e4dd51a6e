package docker

// AtPoint has f called between the steps of a start.
func (s *Settings) AtPoint(f func(name string)) { s.atPoint = f }

// FilesIdle is how long the container is kept that serves the files of an agent.
const FilesIdle = filesIdle
