package mapview

// Compose computes the scene once more.
func (v *View) Compose() { v.compose() }
