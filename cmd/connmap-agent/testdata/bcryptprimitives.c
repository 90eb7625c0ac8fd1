/*
 * bcryptprimitives.dll for wine 8, which has none: Go's programs take their first random
 * numbers from its ProcessPrng. These come from advapi32's RtlGenRandom, which wine has.
 */
#include <windows.h>
#include <ntsecapi.h>

__declspec(dllexport) BOOL WINAPI ProcessPrng(PBYTE data, SIZE_T size)
{
	while (size > 0) {
		ULONG n = size > 0x10000 ? 0x10000 : (ULONG)size;
		if (!RtlGenRandom(data, n))
			return FALSE;
		data += n;
		size -= n;
	}
	return TRUE;
}
