"""The mean over all single-bit faults, from as few faults as possible.

An estimator gets faults by rank (`faults.py`) and a function from the numbers of their bits to
values, such as the share of images whose prediction a flip changes (`harm.py`); `extend`
tries more of them, `estimate` says what is known, `until` goes on as far as a tolerance or a
budget.
"""
