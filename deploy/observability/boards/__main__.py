"""Writes the dashboards and the rules of service levels."""

from deploy.observability.boards.files import write

if __name__ == "__main__":
    for path in write():
        print(path)
