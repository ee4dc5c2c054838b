"""What the verifier's tests share: questions (programs to judge), the kernel's answers and ours."""
