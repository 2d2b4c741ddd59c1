module runc-fit

go 1.24
