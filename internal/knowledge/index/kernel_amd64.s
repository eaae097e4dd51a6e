#include "textflag.h"

// func dotAVX2(a, b *float32, n int) float32
// n is a multiple of 8.
TEXT ·dotAVX2(SB), NOSPLIT, $0-28
	MOVQ a+0(FP), SI
	MOVQ b+8(FP), DI
	MOVQ n+16(FP), CX
	VXORPS Y0, Y0, Y0
	VXORPS Y1, Y1, Y1
	VXORPS Y2, Y2, Y2
	VXORPS Y3, Y3, Y3

dot32:
	CMPQ CX, $32
	JLT  dot8
	VMOVUPS (SI), Y4
	VMOVUPS 32(SI), Y5
	VMOVUPS 64(SI), Y6
	VMOVUPS 96(SI), Y7
	VFMADD231PS (DI), Y4, Y0
	VFMADD231PS 32(DI), Y5, Y1
	VFMADD231PS 64(DI), Y6, Y2
	VFMADD231PS 96(DI), Y7, Y3
	ADDQ $128, SI
	ADDQ $128, DI
	SUBQ $32, CX
	JMP  dot32

dot8:
	CMPQ CX, $8
	JLT  dotSum
	VMOVUPS (SI), Y4
	VFMADD231PS (DI), Y4, Y0
	ADDQ $32, SI
	ADDQ $32, DI
	SUBQ $8, CX
	JMP  dot8

dotSum:
	VADDPS Y1, Y0, Y0
	VADDPS Y3, Y2, Y2
	VADDPS Y2, Y0, Y0
	VEXTRACTF128 $1, Y0, X1
	VADDPS X1, X0, X0
	VHADDPS X0, X0, X0
	VHADDPS X0, X0, X0
	VZEROUPPER
	MOVSS X0, ret+24(FP)
	RET

// func addScaledAVX2(y, x *float32, n int, alpha float32)
// y += alpha*x; n is a multiple of 8.
TEXT ·addScaledAVX2(SB), NOSPLIT, $0-28
	MOVQ y+0(FP), DI
	MOVQ x+8(FP), SI
	MOVQ n+16(FP), CX
	VBROADCASTSS alpha+24(FP), Y0

add8:
	CMPQ CX, $8
	JLT  addDone
	VMOVUPS (DI), Y1
	VFMADD231PS (SI), Y0, Y1
	VMOVUPS Y1, (DI)
	ADDQ $32, SI
	ADDQ $32, DI
	SUBQ $8, CX
	JMP  add8

addDone:
	VZEROUPPER
	RET

// func scanAVX2(dst *int32, blocks *uint8, nblocks, groups int, q *int8)
// For each block of 16 interleaved rows: 16 sums of row*query, unsigned by
// signed. |q| <= 63, so that the pairwise 16-bit sums cannot saturate.
TEXT ·scanAVX2(SB), NOSPLIT, $0-40
	MOVQ dst+0(FP), DI
	MOVQ blocks+8(FP), SI
	MOVQ nblocks+16(FP), R8
	MOVQ groups+24(FP), R9
	MOVQ q+32(FP), R10
	VPCMPEQW Y15, Y15, Y15
	VPSRLW $15, Y15, Y15

scanBlock:
	TESTQ R8, R8
	JZ    scanDone
	VPXOR Y0, Y0, Y0
	VPXOR Y1, Y1, Y1
	MOVQ R9, CX
	MOVQ R10, DX

scanGroup:
	VPBROADCASTD (DX), Y2
	VMOVDQU (SI), Y3
	VMOVDQU 32(SI), Y4
	VPMADDUBSW Y2, Y3, Y3
	VPMADDUBSW Y2, Y4, Y4
	VPMADDWD Y15, Y3, Y3
	VPMADDWD Y15, Y4, Y4
	VPADDD Y3, Y0, Y0
	VPADDD Y4, Y1, Y1
	ADDQ $4, DX
	ADDQ $64, SI
	DECQ CX
	JNZ  scanGroup
	VMOVDQU Y0, (DI)
	VMOVDQU Y1, 32(DI)
	ADDQ $64, DI
	DECQ R8
	JMP  scanBlock

scanDone:
	VZEROUPPER
	RET

// func filterAVX2(block *uint8, groups int, q *int8, stride int, corr *int32, scale, tail *float32, slope, floor *float32) uint64
// Four queries, `stride` bytes apart, against one block of 16 rows. Bit 16*j+i
// of the result is set if scale[i]*(sum+corr[j]) + tail[i]*slope[j] >= floor[j].
TEXT ·filterAVX2(SB), NOSPLIT, $0-80
	MOVQ block+0(FP), SI
	MOVQ groups+8(FP), CX
	MOVQ q+16(FP), R10
	MOVQ stride+24(FP), R11
	LEAQ (R10)(R11*2), R12
	VPCMPEQW Y15, Y15, Y15
	VPSRLW $15, Y15, Y15
	MOVQ corr+32(FP), DX
	VPBROADCASTD (DX), Y0
	VMOVDQA Y0, Y1
	VPBROADCASTD 4(DX), Y2
	VMOVDQA Y2, Y3
	VPBROADCASTD 8(DX), Y4
	VMOVDQA Y4, Y5
	VPBROADCASTD 12(DX), Y6
	VMOVDQA Y6, Y7

filterGroup:
	VMOVDQU (SI), Y8
	VMOVDQU 32(SI), Y9
	VPBROADCASTD (R10), Y10
	VPMADDUBSW Y10, Y8, Y11
	VPMADDUBSW Y10, Y9, Y12
	VPMADDWD Y15, Y11, Y11
	VPMADDWD Y15, Y12, Y12
	VPADDD Y11, Y0, Y0
	VPADDD Y12, Y1, Y1
	VPBROADCASTD (R10)(R11*1), Y10
	VPMADDUBSW Y10, Y8, Y11
	VPMADDUBSW Y10, Y9, Y12
	VPMADDWD Y15, Y11, Y11
	VPMADDWD Y15, Y12, Y12
	VPADDD Y11, Y2, Y2
	VPADDD Y12, Y3, Y3
	VPBROADCASTD (R12), Y10
	VPMADDUBSW Y10, Y8, Y11
	VPMADDUBSW Y10, Y9, Y12
	VPMADDWD Y15, Y11, Y11
	VPMADDWD Y15, Y12, Y12
	VPADDD Y11, Y4, Y4
	VPADDD Y12, Y5, Y5
	VPBROADCASTD (R12)(R11*1), Y10
	VPMADDUBSW Y10, Y8, Y11
	VPMADDUBSW Y10, Y9, Y12
	VPMADDWD Y15, Y11, Y11
	VPMADDWD Y15, Y12, Y12
	VPADDD Y11, Y6, Y6
	VPADDD Y12, Y7, Y7
	ADDQ $64, SI
	ADDQ $4, R10
	ADDQ $4, R12
	DECQ CX
	JNZ  filterGroup

	MOVQ scale+40(FP), R8
	MOVQ tail+48(FP), R9
	MOVQ slope+56(FP), R10
	MOVQ floor+64(FP), R11
	VMOVUPS (R8), Y8
	VMOVUPS 32(R8), Y9
	VMOVUPS (R9), Y10
	VMOVUPS 32(R9), Y11

#define COMPARE(lo, hi, at, shift) \
	VCVTDQ2PS lo, lo; \
	VCVTDQ2PS hi, hi; \
	VMULPS Y8, lo, lo; \
	VMULPS Y9, hi, hi; \
	VBROADCASTSS at(R10), Y12; \
	VFMADD231PS Y12, Y10, lo; \
	VFMADD231PS Y12, Y11, hi; \
	VBROADCASTSS at(R11), Y12; \
	VCMPPS $13, Y12, lo, lo; \
	VCMPPS $13, Y12, hi, hi; \
	VMOVMSKPS lo, AX; \
	VMOVMSKPS hi, BX; \
	SHLQ $8, BX; \
	ORQ BX, AX; \
	SHLQ $shift, AX; \
	ORQ AX, DX

	XORQ DX, DX
	COMPARE(Y0, Y1, 0, 0)
	COMPARE(Y2, Y3, 4, 16)
	COMPARE(Y4, Y5, 8, 32)
	COMPARE(Y6, Y7, 12, 48)
	VZEROUPPER
	MOVQ DX, ret+72(FP)
	RET
