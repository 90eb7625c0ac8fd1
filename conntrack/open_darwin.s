#include "textflag.h"

TEXT procPIDPath<>(SB),NOSPLIT,$0-0
	JMP	libc_proc_pidpath(SB)

GLOBL	·procPIDPathAddr(SB), RODATA, $8
DATA	·procPIDPathAddr(SB)/8, $procPIDPath<>(SB)
