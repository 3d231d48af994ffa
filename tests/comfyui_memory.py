"""What a ComfyUI says when the memory of its device does not suffice."""

_TIPS = (
    "\nThis error means you ran out of memory on your GPU.\n\nTIPS: If the workflow worked before you might have "
    "accidentally set the batch_size to a large number."
)
#: Exception type and message, by the kind of device that ran out.
OUT_OF_MEMORY: dict[str, tuple[str, str]] = {
    "cuda": (
        "torch.OutOfMemoryError",
        "Allocation on device 0 would exceed allowed memory. (out of memory)\n"
        "Currently allocated     : 9.85 GiB\nRequested               : 2.00 GiB\n"
        "Device limit            : 11.99 GiB\nFree (according to CUDA): 0 bytes\n"
        "PyTorch limit (set by user-supplied memory fraction)\n                        : 17179869184.00 GiB" + _TIPS,
    ),
    "rocm": (
        "torch.OutOfMemoryError",
        "HIP out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 23.98 GiB of which 1.09 GiB is "
        "free. Of the allocated memory 21.36 GiB is allocated by PyTorch, and 1.12 GiB is reserved by PyTorch but "
        "unallocated. If reserved but unallocated memory is large try setting "
        "PYTORCH_HIP_ALLOC_CONF=expandable_segments:True to avoid fragmentation." + _TIPS,
    ),
    "cpu": (
        "RuntimeError",
        "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to "
        "allocate 4398046511104 bytes. Error code 12 (Cannot allocate memory)\n",
    ),
}
