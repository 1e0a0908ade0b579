"""Operations, each a file: its kernels, its reference, its cost. On CPUs see kernels/cpu."""

from kernels.cpu.register import register

register()
