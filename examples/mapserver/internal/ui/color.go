package ui

import (
	"image/color"
	"math"
)

// Opaque returns c without transparency, for text and small marks.
func Opaque(c color.NRGBA) color.NRGBA {
	c.A = 255
	return c
}

// Fade returns c at a share of its opacity.
func Fade(c color.NRGBA, share float64) color.NRGBA {
	c.A = uint8(float64(c.A) * share)
	return c
}

// Contrast is the contrast ratio of WCAG 2, 1 to 21.
func Contrast(a, b color.NRGBA) float64 {
	la, lb := luminance(a), luminance(b)
	return (max(la, lb) + 0.05) / (min(la, lb) + 0.05)
}

func luminance(c color.NRGBA) float64 {
	f := func(v uint8) float64 {
		x := float64(v) / 255
		if x <= 0.04045 {
			return x / 12.92
		}
		return math.Pow((x+0.055)/1.055, 2.4)
	}
	return 0.2126*f(c.R) + 0.7152*f(c.G) + 0.0722*f(c.B)
}
