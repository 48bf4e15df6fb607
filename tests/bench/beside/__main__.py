from tests.bench.beside import compare


def main() -> None:
    found = compare()
    same = [name for name, told in found.items() if not told]
    for name, told in found.items():
        for key, (ours, theirs) in told.items():
            print(f"{name:34} {key:14} ours {str(ours)[:230]}\n{'':50}Envoy {str(theirs)[:230]}")
    print(f"{len(same)} of {len(found)} alike")


if __name__ == "__main__":
    main()
