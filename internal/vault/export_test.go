package vault

// At calls do after each step of a rotation. An error ends the rotation there, as a crash
// would.
func (r Rotation) At(do func(step string) error) Rotation {
	r.reached = do
	return r
}
